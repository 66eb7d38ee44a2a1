//! A second process that outlives the bench by a moment: whatever ends the bench (an error, Ctrl-C, kill -9), it kills
//! the process groups that are left and removes the directories. It learns of the end by the end of its input.
//!
//! Words to it, one a line: `group N`, `gone N`, `directory PATH`.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Mutex;

/// The mark of this process.
pub const PART: &str = "guard";

/// The bench's side. When it is dropped everything that it was told of ends.
pub struct Guard {
    child: Child,
    words: Mutex<Option<ChildStdin>>,
}

impl Guard {
    /// Starts it.
    pub fn start() -> io::Result<Guard> {
        let mut command = Command::new(std::env::current_exe()?);
        // its own group: Ctrl-C is not for it
        command.env(crate::PART, PART).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let words = Mutex::new(child.stdin.take());
        Ok(Guard { child, words })
    }

    /// Has this process group killed at the end.
    pub fn watch(&self, group: i32) {
        self.say(&format!("group {group}"));
    }

    /// It has ended; its number may be somebody else's now.
    pub fn forget(&self, group: i32) {
        self.say(&format!("gone {group}"));
    }

    /// Has this directory removed at the end.
    pub fn remove(&self, directory: &Path) {
        self.say(&format!("directory {}", directory.display()));
    }

    fn say(&self, word: &str) {
        let mut words = self.words.lock().expect("nobody panics while saying a word");
        // without the guard the bench still ends what it starts, as long as it lives
        let _ = words.as_mut().map(|words| writeln!(words, "{word}"));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.words.lock().map(|mut words| words.take()).ok();
        let _ = self.child.wait();
    }
}

/// The process itself.
pub fn main() -> ExitCode {
    let (mut groups, mut directories) = (BTreeSet::new(), vec![]);
    for line in io::stdin().lines().map_while(Result::ok) {
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match (word, rest.parse::<i32>()) {
            ("group", Ok(group)) => drop(groups.insert(group)),
            ("gone", Ok(group)) => drop(groups.remove(&group)),
            ("directory", _) => directories.push(rest.to_owned()),
            _ => {}
        }
    }
    for group in groups {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    for directory in directories {
        let _ = std::fs::remove_dir_all(directory);
    }
    ExitCode::SUCCESS
}
