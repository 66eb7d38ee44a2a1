//! The rules of the house, as tests: who may import whom, where `unsafe` and io_uring may stand, that every file says
//! what it is for. It never checks lengths.

use std::fs;
use std::path::{Path, PathBuf};

/// A file imports only from floors above its own in this list.
const FLOORS: [&str; 25] = [
    "error",
    "event",
    "sys",
    "whole_file",
    "stats",
    "access_log",
    "http",
    "ring",
    "config",
    "log",
    "ipc",
    "handler",
    "files",
    "worker",
    "master",
    "doctor",
    "cli",
    "cluster",
    "server",
    "test",
    "guide",
    "load",
    "lib",
    "main",
    "bin",
];

/// Not even downwards: they talk through channels.
const STRANGERS: [&str; 2] = ["worker", "master"];

#[test]
fn every_import_goes_up_the_list() {
    for file in sources() {
        let (own, _) = place(&file.floor);
        for imported in file.imports() {
            let (other, known) = place(&imported);
            assert!(known, "{}: `{imported}` is on no floor", file.name);
            assert!(other <= own, "{}: imports `{imported}`, which is below it", file.name);
            let strangers =
                STRANGERS.contains(&imported.as_str()) && STRANGERS.contains(&file.floor.as_str());
            assert!(!strangers || imported == file.floor, "{}: imports `{imported}`", file.name);
        }
    }
}

#[test]
fn unsafe_stands_on_its_two_islands_and_says_why() {
    for file in sources() {
        let island = ["sys", "ring"].contains(&file.floor.as_str());
        for (number, line) in file.code() {
            let uses = words(line).any(|word| word == "unsafe");
            assert!(!uses || island, "{}:{number}: unsafe outside sys/ and ring/", file.name);
        }
    }
    for file in sources_under("tests").into_iter().chain(sources_under("examples")) {
        let found =
            file.code().find(|(_, line)| words(line).any(|word| word == "unsafe") && !line.contains('"'));
        assert!(found.is_none(), "{}: unsafe: {found:?}", file.name);
    }
}

#[test]
fn io_uring_is_named_in_ring_only() {
    for file in sources().into_iter().filter(|file| file.floor != "ring") {
        let found = file.code().find(|(_, line)| line.contains("io_uring::"));
        assert!(found.is_none(), "{}: {found:?}", file.name);
    }
}

#[test]
fn nodes_words_are_in_one_file() {
    for file in sources()
        .into_iter()
        .filter(|file| !file.name.ends_with("ipc/node.rs") && !file.name.contains("/tests"))
    {
        let found = file.code().find(|(_, line)| line.contains("NODE_"));
        assert!(found.is_none(), "{}: {found:?}", file.name);
    }
}

#[test]
fn every_file_says_what_it_is_for_and_who_its_neighbours_are() {
    for file in sources() {
        let head: String = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
        assert!(head.len() > 60, "{}: opens without saying what it is for", file.name);
        let alone = ["lib", "main"].contains(&file.floor.as_str()) || file.name.contains("/tests");
        assert!(alone || head.contains("eighbour"), "{}: does not name its neighbours", file.name);
    }
    for file in
        sources_under("tests").into_iter().chain(sources_under("examples")).chain(sources_under("benches"))
    {
        assert!(file.text.starts_with("//! "), "{}: opens without saying what it is for", file.name);
    }
}

#[test]
fn every_command_of_the_readme_is_run_by_ci() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let ci = fs::read_to_string(root.join(".ci/run")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 4);
    let tables = readme.lines().filter_map(|line| line.strip_prefix("| `cargo ")?.split_once('`'));
    let commands = tables.map(|(command, _)| format!("cargo {command}"));
    let lines = blocks.iter().flat_map(|block| block.lines()).map(str::to_owned);
    for command in commands.chain(lines) {
        assert!(ci.contains(&command), "{command:?} is not run by .ci/run");
    }
}

#[test]
fn the_first_program_is_the_same_wherever_it_stands() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let example = read("examples/hello.rs");
    let program = example.split_once("\n\nuse ").unwrap().1.trim_end();
    let map = read("src/lib.rs").replace("\n//! ", "\n").replace("\n//!\n", "\n\n");
    for (place, text) in [("README.md", read("README.md")), ("src/lib.rs", map)] {
        assert!(text.contains(program), "{place} has another program than examples/hello.rs");
    }
}

struct Source {
    name: String,
    /// The first folder or file below src.
    floor: String,
    text: String,
}

impl Source {
    /// Lines that are neither comments nor the tests at the file's end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines()).take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn imports(&self) -> Vec<String> {
        let mut imports = vec![];
        let text: String = self.code().map(|(_, line)| format!("{line}\n")).collect();
        for (place, _) in text.match_indices("crate::") {
            let rest = &text[place + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(list) => {
                    let list = &list[..list.find("};").unwrap_or(list.len())];
                    let items = top_level_items(list);
                    imports.extend(items.iter().map(|item| first_word(item)));
                }
                None => imports.push(first_word(rest)),
            }
        }
        imports.retain(|import| !import.is_empty());
        // what lib re-exports by name is lib's
        imports
            .into_iter()
            .map(|name| if name.starts_with(char::is_uppercase) { "lib".into() } else { name })
            .collect()
    }
}

fn place(floor: &str) -> (usize, bool) {
    let found = FLOORS.iter().position(|other| *other == floor);
    (found.unwrap_or(usize::MAX), found.is_some())
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// `a::{b, c}, d` has two.
fn top_level_items(list: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        items.last_mut().unwrap().push(c);
    }
    items
}

fn sources() -> Vec<Source> {
    sources_under("src")
}

fn sources_under(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = vec![];
    collect(&root, &mut files);
    assert!(!files.is_empty() || folder != "src");
    files.into_iter().map(|path| read(&root, &path)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(root: &Path, path: &Path) -> Source {
    let inside = path.strip_prefix(root).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
    Source {
        name: path.display().to_string(),
        floor: first.trim_end_matches(".rs").to_owned(),
        text: fs::read_to_string(path).unwrap(),
    }
}
