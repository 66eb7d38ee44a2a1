//! What is served and sent, made anew for each run and the same each time: a site of 20 files, one large file, and the
//! bodies of requests.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The directory that is served.
pub const ROOT: &str = "site";
/// A file in it.
pub const DOWNLOAD: &str = "download.bin";
/// The small answer as a file, for servers that have no other.
pub const SMALL: &str = "small.txt";
/// The body of a small POST.
pub const POST: &str = "post.txt";
/// The body of a large one.
pub const UPLOAD: &str = "upload.bin";

const DOWNLOAD_OCTETS: usize = 1 << 20;
const POST_OCTETS: usize = 1024;
const UPLOAD_OCTETS: usize = 20_000_000;

/// Name and length: 842 KB in all.
const FILES: [(&str, usize); 20] = [
    ("page.html", 14_200),
    ("about.html", 6_300),
    ("contact.html", 3_100),
    ("app.css", 38_400),
    ("print.css", 2_400),
    ("reset.css", 1_200),
    ("app.js", 179_600),
    ("vendor.js", 142_000),
    ("menu.js", 9_800),
    ("track.js", 4_600),
    ("logo.svg", 5_200),
    ("icons.svg", 21_700),
    ("arrow.svg", 500),
    ("data.json", 11_000),
    ("hero.png", 178_000),
    ("team.png", 96_000),
    ("map.png", 64_000),
    ("photo.png", 42_000),
    ("thumb.png", 17_000),
    ("favicon.png", 5_000),
];

/// Of the 20 files.
pub fn paths() -> Vec<String> {
    FILES.iter().map(|(name, _)| format!("/{name}")).collect()
}

/// Makes all of it below `scratch`.
pub fn make(scratch: &Path, small: &str) -> Result<(), String> {
    let root = scratch.join(ROOT);
    let problem = |error: io::Error| format!("cannot make a site in {}: {error}", scratch.display());
    fs::create_dir_all(&root).map_err(problem)?;
    for (seed, (name, octets)) in FILES.iter().enumerate() {
        let file = root.join(name);
        let incompressible = name.ends_with(".png");
        let content = if incompressible { noise(seed as u64, *octets) } else { text(seed as u64, *octets) };
        fs::write(&file, content).map_err(problem)?;
        if !incompressible {
            compress(&file)?;
        }
    }
    let large = [(root.join(DOWNLOAD), DOWNLOAD_OCTETS), (scratch.join(UPLOAD), UPLOAD_OCTETS)];
    for (file, octets) in large {
        fs::write(file, noise(1, octets)).map_err(problem)?;
    }
    fs::write(root.join(SMALL), small).map_err(problem)?;
    fs::write(scratch.join(POST), text(1, POST_OCTETS)).map_err(problem)
}

/// FILE.gz beside the file, with the file's own time, as a deployment does it.
fn compress(file: &Path) -> Result<(), String> {
    let out = file.with_file_name(format!("{}.gz", file.file_name().unwrap_or_default().display()));
    let problem = |error: &dyn std::fmt::Display| format!("gzip {}: {error}", file.display());
    let compressed = File::create(&out).map_err(|error| problem(&error))?;
    let mut gzip = Command::new("gzip");
    gzip.args(["-9", "-n", "-c"]).arg(file).stdin(Stdio::null()).stdout(compressed);
    let status = gzip.status().map_err(|error| problem(&error))?;
    if status.success() { Ok(()) } else { Err(problem(&status)) }
}

/// Words and brackets: compresses to about a quarter, as code does.
fn text(seed: u64, octets: usize) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "function",
        "return",
        "const",
        "margin",
        "padding",
        "width",
        "color",
        "border",
        "{",
        "}",
        "(",
        ");\n",
        "\n  ",
        " = ",
        "0px",
        "#ffffff",
        "<div class=\"",
        "\">",
        "</div>\n",
        "title",
        "value",
        "index",
        "length",
        ", ",
    ];
    let mut random = Random(seed);
    let mut text = Vec::with_capacity(octets + 16);
    while text.len() < octets {
        let draw = random.next();
        text.extend(WORDS[(draw % WORDS.len() as u64) as usize].bytes());
        if draw.is_multiple_of(5) {
            text.extend(format!("{:x} ", draw >> 44).bytes());
        }
    }
    text.truncate(octets);
    text
}

fn noise(seed: u64, octets: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut noise: Vec<u8> = (0..octets.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    noise.truncate(octets);
    noise
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
