//! The options as typed: one row each, with its name, help, environment variable and default. `uringd --help` is made
//! of these rows. Parsing here judges only how a value is written; whether it can be used is `resolve`'s to say, so
//! that a program which fills in `Options` itself is checked by the same rules.
//!
//! Neighbours: `given` has their values judged wherever they were set, `written` is the way back, `cluster` fills them in
//! from code, `resolve` makes a `Config`.

use super::{AccessLog, AccessLogFormat, Control, Listen, LogFormat, LogLevel, OnPanic, Symlinks};
use clap::builder::Resettable;
use clap::{ArgAction, Args, Command, FromArgMatches};
use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The port when neither `--port` nor `--listen` is given.
pub const DEFAULT_PORT: u16 = 1337;

/// `--max-connections` when it is not given and the descriptor limit leaves room for it.
pub const DEFAULT_MAX_CONNECTIONS: u32 = 16_384;

/// Bounds a core number before a range such as `0-99999999999` is spelled out; Linux has no more.
const CORE_MAX: usize = 8191;

/// Beyond any use, and no sum of such sizes overflows.
pub(super) const SIZE_MAX: u64 = 1 << 40;

const LISTENING: &str = "Listening";
const WORKERS: &str = "Workers";
const RESTARTS: &str = "Restarts";
const CONNECTIONS: &str = "Connections";
const REQUESTS: &str = "Requests";
const FILES: &str = "Files";
pub(crate) const OPERATION: &str = "Operation";
const LATENCY: &str = "Latency";
const LOGGING: &str = "Logging";

/// The units of a size, largest first. Those of 1000 are left out: `1MB` means a million to one and 2^20 to another.
const SIZE_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Everything that can be set, as the user says it. `Options::default()` is the empty command line without environment.
///
/// A minor version may add an option: end with `..Options::default()`, and with `..` where you take one apart.
///
/// ```
/// use std::time::Duration;
/// use uringd::config::Options;
/// use uringd::config::options::Workers;
///
/// let options = Options {
///     listen: vec!["127.0.0.1:8080".parse()?],
///     workers: Workers::Count(2),
///     kill_timeout: Duration::from_secs(30),
///     ..Options::default()
/// };
/// # let cluster = uringd::Cluster::new().options(options);
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Options {
    /// TCP port, on every address of this machine, IPv6 and IPv4; 0 lets the kernel choose one
    ///
    /// Default: 1337, unless --listen is given. With both given, both are bound.
    #[arg(long, env = "URINGD_PORT", value_name = "PORT", value_parser = port, help_heading = LISTENING)]
    pub port: Option<u16>,

    /// Address to listen on, ADDRESS:PORT or unix:/path; may be given several times
    ///
    /// Such as `127.0.0.1:1337`, `[::1]:1337` or `unix:/run/uringd.sock`. Names are not resolved. Several addresses may
    /// also stand in one value, separated by commas.
    #[arg(long, env = "URINGD_LISTEN", value_name = "ADDR", value_delimiter = ',', help_heading = LISTENING)]
    pub listen: Vec<Listen>,

    /// Permissions of the socket file made for --listen unix:/path, in octal
    ///
    /// To connect is to write. 0666 lets every local user connect, as a TCP port on 127.0.0.1 would, so a proxy under
    /// another user works at once. Say 0660 or 0600 to let in only the group or the owner.
    #[arg(long, env = "URINGD_UNIX_MODE", value_name = "MODE", default_value = "0666", value_parser = mode, help_heading = LISTENING)]
    pub unix_mode: u32,

    /// How many connections may wait to be accepted, for each address
    ///
    /// The kernel cuts it to net.core.somaxconn.
    #[arg(long, env = "URINGD_BACKLOG", value_name = "N", default_value = "4096", value_parser = whole, help_heading = LISTENING)]
    pub backlog: u32,

    /// How many worker processes; auto: one per core this process may use
    ///
    /// auto respects the affinity mask (taskset) and the CPU quota of the cgroup (containers). At most 1024.
    #[arg(long, env = "URINGD_WORKERS", value_name = "N|auto", default_value = "auto", help_heading = WORKERS)]
    pub workers: Workers,

    /// Which cores the workers are pinned to, in turn: auto, off, or a list such as 0,2,4-7
    ///
    /// auto pins to all cores this process may use, unless a CPU quota gives it less time than they have: the
    /// scheduler then does better alone.
    #[arg(long, env = "URINGD_PIN", value_name = "auto|off|CORES", default_value = "auto", help_heading = WORKERS)]
    pub pin: Pin,

    /// User (and group) the workers run as, by name or number; needs root
    ///
    /// The sockets are bound first, so ports below 1024 work. With a GROUP the workers have that group only, without
    /// one all groups of the user. Default: whoever started uringd.
    #[arg(long, env = "URINGD_USER", value_name = "NAME[:GROUP]", help_heading = WORKERS)]
    pub user: Option<UserSpec>,

    /// How long a leaving worker may take to finish its requests before it is killed (250ms, 5s, 1m)
    #[arg(long, env = "URINGD_KILL_TIMEOUT", value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = WORKERS)]
    pub kill_timeout: Duration,

    /// Where to write the process ID of the master; default: nowhere
    #[arg(long, env = "URINGD_PID_FILE", value_name = "FILE", help_heading = WORKERS)]
    pub pid_file: Option<PathBuf>,

    /// Socket for `uringd ctl`: a path, auto or off
    ///
    /// auto: /run/uringd/PORT.sock (ADDRESS:PORT.sock where another server has that), or below XDG_RUNTIME_DIR where that
    /// may not be written. Only root and the user who started uringd may connect.
    #[arg(long, env = "URINGD_CONTROL", value_name = "PATH|auto|off", default_value = "auto", help_heading = OPERATION)]
    pub control: Control,

    /// Address where Prometheus reads metrics, ADDRESS:PORT; default: nowhere
    ///
    /// Answers /metrics, /health/live and /health/ready to anybody who reaches it.
    #[arg(long, env = "URINGD_METRICS", value_name = "ADDR", help_heading = OPERATION)]
    pub metrics: Option<Listen>,

    /// Where to write the latencies of requests every second, one histogram a worker: an interval log of HdrHistogram's,
    /// version 2, in nanoseconds, tagged `worker-ID`. Made anew at every start; default: nowhere
    #[arg(long, env = "URINGD_LATENCY_LOG", value_name = "FILE", help_heading = LATENCY)]
    pub latency_log: Option<PathBuf>,

    /// Where to write the latencies of all requests at exit: a percentile table as HdrHistogram's plotters read it, in
    /// microseconds; default: nowhere. With one of these two flags the master also prints a table at exit
    #[arg(long, env = "URINGD_LATENCY_REPORT", value_name = "FILE", help_heading = LATENCY)]
    pub latency_report: Option<PathBuf>,

    /// How many crashed workers are replaced within --restart-window; one more, and uringd gives up for a while
    #[arg(long, env = "URINGD_RESTART_LIMIT", value_name = "N", default_value = "10", value_parser = whole, help_heading = RESTARTS)]
    pub restart_limit: u32,

    /// The time in which --restart-limit counts (250ms, 5s, 1m)
    #[arg(long, env = "URINGD_RESTART_WINDOW", value_name = "TIME", default_value = "60s", value_parser = duration, help_heading = RESTARTS)]
    pub restart_window: Duration,

    /// How long a new worker may take until it listens; then it counts as crashed (250ms, 5s, 1m)
    #[arg(long, env = "URINGD_BOOT_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = RESTARTS)]
    pub boot_timeout: Duration,

    /// How long a worker's loop may stand still, in one handler for instance, before it is replaced and killed
    /// (250ms, 5s, 1m)
    ///
    /// What it was doing is logged first. A machine that was suspended has not stood still.
    #[arg(long, env = "URINGD_STALL_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration, help_heading = RESTARTS)]
    pub stall_timeout: Duration,

    /// How many requests a worker may serve before another takes its place; default: any number
    ///
    /// Varied by up to a tenth, so that workers that began together do not leave together. Costs no restart. Looked at
    /// once a second, and not before a worker has listened for one.
    #[arg(long, env = "URINGD_MAX_REQUESTS", value_name = "N", value_parser = count, help_heading = RESTARTS)]
    pub max_requests: Option<u64>,

    /// How long a worker may live before another takes its place (30m, 12h, 7d); default: as long as it likes
    ///
    /// Varied by up to a tenth, as --max-requests.
    #[arg(long, env = "URINGD_MAX_LIFETIME", value_name = "TIME", value_parser = duration, help_heading = RESTARTS)]
    pub max_lifetime: Option<Duration>,

    /// How much memory of its own (RssAnon) a worker may have before another takes its place (256MiB, 2GiB); default: any
    ///
    /// Varied by up to a tenth, as --max-requests. A worker that has as much when it begins is not replaced for it.
    #[arg(long, env = "URINGD_MAX_MEMORY", value_name = "SIZE", value_parser = size, help_heading = RESTARTS)]
    pub max_memory: Option<u64>,

    /// Command (for /bin/sh) that is run when too many workers have crashed and no more are replaced
    ///
    /// It finds the facts in its environment: URINGD_MASTER_PID, URINGD_RESTART_LIMIT, URINGD_RESTART_WINDOW,
    /// URINGD_ALIVE, URINGD_LISTEN.
    #[arg(long, env = "URINGD_ON_GIVEUP", value_name = "COMMAND", help_heading = RESTARTS)]
    pub on_giveup: Option<String>,

    /// What a worker does when its handler panics; the panic is logged in any case
    #[arg(long, env = "URINGD_ON_PANIC", value_name = "WHAT", default_value = "suicide", help_heading = RESTARTS)]
    pub on_panic: OnPanic,

    /// How many clients one worker serves at a time; further ones wait to be accepted
    ///
    /// Default: 16384, or as many as the hard limit of open files (ulimit -Hn) allows, if that is less. A number given
    /// here is never lowered: uringd refuses to start if the limit is too low for it.
    #[arg(long, env = "URINGD_MAX_CONNECTIONS", value_name = "N", value_parser = whole, help_heading = CONNECTIONS)]
    pub max_connections: Option<u32>,

    /// How long a client may take to send the head of a request (250ms, 5s, 1m)
    #[arg(long, env = "URINGD_HEADER_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = CONNECTIONS)]
    pub header_timeout: Duration,

    /// How long a connection may stay open without a request (250ms, 5s, 1m)
    #[arg(long, env = "URINGD_KEEP_ALIVE_TIMEOUT", value_name = "TIME", default_value = "75s", value_parser = duration, help_heading = CONNECTIONS)]
    pub keep_alive_timeout: Duration,

    /// How long a client may take none of the bytes sent to it (250ms, 5s, 1m)
    #[arg(long, env = "URINGD_SEND_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = duration, help_heading = CONNECTIONS)]
    pub send_timeout: Duration,

    /// The longest body of a request that is taken (65536, 64KiB, 1MiB); 0: none at all
    ///
    /// A longer one is answered with 413: at once where the client says its length, else as soon as it is passed.
    #[arg(long, env = "URINGD_MAX_BODY", value_name = "SIZE", default_value = "1MiB", value_parser = size, help_heading = REQUESTS)]
    pub max_body: u64,

    /// How long a client may send less of a body than --body-rate asks for (250ms, 5s, 1m)
    ///
    /// A body is looked at once in every such period.
    #[arg(long, env = "URINGD_BODY_TIMEOUT", value_name = "TIME", default_value = "20s", value_parser = duration, help_heading = REQUESTS)]
    pub body_timeout: Duration,

    /// Octets a second that a body must bring, on average over each --body-timeout (240, 4KiB)
    ///
    /// 0 asks only that anything at all comes in that time.
    #[arg(long, env = "URINGD_BODY_RATE", value_name = "SIZE", default_value = "240", value_parser = size, help_heading = REQUESTS)]
    pub body_rate: u64,

    /// Whether answers carry `Server: uringd`
    #[arg(long, env = "URINGD_SERVER_HEADER", value_name = "on|off", default_value = "on", value_parser = switch, action = ArgAction::Set, help_heading = REQUESTS)]
    pub server_header: bool,

    /// Directory whose files are served; default: none are
    ///
    /// Links in the path itself are followed anew by every worker that starts: when a link such as `current` points
    /// to another tree, a reload (SIGHUP) serves that one.
    #[arg(long, env = "URINGD_ROOT", value_name = "DIR", help_heading = FILES)]
    pub root: Option<PathBuf>,

    /// Which symbolic links below --root are followed
    #[arg(long, env = "URINGD_SYMLINKS", value_name = "WHICH", default_value = "beneath", help_heading = FILES)]
    pub symlinks: Symlinks,

    /// File below --root that is sent, with status 404, where there is no such file
    ///
    /// The path begins at --root: `404.html`, `errors/404.html`.
    #[arg(long, env = "URINGD_NOT_FOUND", value_name = "FILE", help_heading = FILES)]
    pub not_found: Option<PathBuf>,

    /// Cache-Control of the files, such as `max-age=3600`; default: none is sent
    #[arg(long, env = "URINGD_CACHE_CONTROL", value_name = "VALUE", help_heading = FILES)]
    pub cache_control: Option<String>,

    /// Memory of each worker for the contents of small files (512KiB, 32MiB); 0: none is kept
    #[arg(long, env = "URINGD_FILE_CACHE", value_name = "SIZE", default_value = "32MiB", value_parser = size, help_heading = FILES)]
    pub file_cache: u64,

    /// Where each request is written as one line: a file, or - for standard output; default: nowhere
    ///
    /// The file is appended to, and opened anew on SIGUSR1.
    #[arg(long, env = "URINGD_ACCESS_LOG", value_name = "FILE|-", help_heading = LOGGING)]
    pub access_log: Option<AccessLog>,

    /// How those lines look
    #[arg(long, env = "URINGD_ACCESS_LOG_FORMAT", value_name = "FORMAT", default_value = "combined", help_heading = LOGGING)]
    pub access_log_format: AccessLogFormat,

    /// How log lines look
    #[arg(long, env = "URINGD_LOG_FORMAT", value_name = "FORMAT", default_value = "text", help_heading = LOGGING)]
    pub log_format: LogFormat,

    /// How much is logged; each level includes those before it
    #[arg(long, env = "URINGD_LOG_LEVEL", value_name = "LEVEL", default_value = "info", help_heading = LOGGING)]
    pub log_level: LogLevel,
}

/// `--workers`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Workers {
    /// As many as the machine, the affinity mask and the CPU quota give.
    #[default]
    Auto,
    /// This many.
    Count(usize),
}

/// `--pin`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pin {
    /// All allowed cores, unless a CPU quota binds.
    #[default]
    Auto,
    /// The scheduler decides.
    Off,
    /// These cores, in this order: the first worker gets the first.
    Cores(Vec<usize>),
}

/// `--user`: names or numbers, not looked up yet. Made by `parse`, as in `"www-data:web".parse()`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserSpec {
    /// Before the colon.
    pub name: String,
    /// After the colon.
    pub group: Option<String>,
}

/// Reads an empty command line, with the environment left out: a default is said once, in its row.
impl Default for Options {
    fn default() -> Self {
        parse_words([] as [&str; 0]).expect("the defaults above parse")
    }
}

/// The rows, and what clap knows of each.
pub(crate) fn rows() -> Command {
    Options::augment_args(Command::new("uringd"))
}

/// Reads the words behind a program's name, with the environment left out.
pub(super) fn parse_words<W: Into<OsString> + Clone>(
    words: impl IntoIterator<Item = W>,
) -> std::result::Result<Options, clap::Error> {
    let command = rows().no_binary_name(true).mut_args(|row| row.env(Resettable::Reset));
    Options::from_arg_matches(&command.try_get_matches_from(words)?)
}

/// The error says what is expected.
impl FromStr for Workers {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Workers::Auto),
            _ => text
                .parse()
                .map(Workers::Count)
                .map_err(|_| "expected auto or how many, such as 4".to_string()),
        }
    }
}

/// The error says what is expected.
impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Pin::Auto),
            "off" => Ok(Pin::Off),
            _ => parse_cores(text).map(Pin::Cores),
        }
    }
}

/// `0,2,4-7`, in the order typed: the first worker gets the first core.
fn parse_cores(text: &str) -> std::result::Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_core(first)?, parse_core(last)?);
        if first > last {
            return Err(format!("the range {part} runs backwards, write {last}-{first}"));
        }
        cores.extend(first..=last);
    }
    Ok(cores)
}

fn parse_core(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(core) if core <= CORE_MAX => Ok(core),
        Ok(_) => Err(format!("core numbers go up to {CORE_MAX}")),
        Err(_) => Err("expected auto, off or a list of cores such as 0,2,4-7".to_string()),
    }
}

/// The inverse of `--pin 0,2,4-7`: runs of cores become ranges.
pub(crate) fn format_cores(cores: &[usize]) -> String {
    let runs = cores.chunk_by(|core, next| core + 1 == *next);
    let parts = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run[0].to_string(),
    });
    parts.collect::<Vec<_>>().join(",")
}

/// The error says what is expected.
impl FromStr for UserSpec {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, group) = match text.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (text, None),
        };
        if name.is_empty() || group.is_some_and(|group| group.is_empty() || group.contains(':')) {
            return Err("expected NAME or NAME:GROUP, such as www-data or www-data:web".to_string());
        }
        Ok(UserSpec { name: name.to_string(), group: group.map(str::to_string) })
    }
}

/// As typed after `--user`.
impl fmt::Display for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// As typed after `--control`.
impl FromStr for Control {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "" => Err("expected a path, auto or off".to_string()),
            "auto" => Ok(Control::Auto),
            "off" => Ok(Control::Off),
            path => Ok(Control::Path(path.into())),
        }
    }
}

/// As typed after `--access-log`.
impl FromStr for AccessLog {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "" => Err("expected a file, or - for standard output".to_string()),
            "-" => Ok(AccessLog::Stdout),
            path => Ok(AccessLog::File(path.into())),
        }
    }
}

/// As typed after `--listen`. The error says what is expected.
impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path must follow unix: as in unix:/run/uringd.sock".to_string()),
            Some(path) => Ok(Listen::Unix(path.into())),
            None => text.parse().map(Listen::Tcp).map_err(|_| why_not_an_address(text)),
        }
    }
}

fn why_not_an_address(text: &str) -> String {
    if text.parse::<u16>().is_ok() {
        return format!("an address is missing, write 127.0.0.1:{text}, or --port {text} for every address");
    }
    if text.parse::<Ipv4Addr>().is_ok() {
        return format!("the port is missing, write {text}:{DEFAULT_PORT}");
    }
    if text.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok() {
        return "an IPv6 address is written in brackets and with a port, such as [::1]:1337".to_string();
    }
    if text.starts_with(['/', '.']) {
        return format!("a Unix socket is written unix:{text}");
    }
    match text.rsplit_once(':') {
        None => "expected 127.0.0.1:1337, [::1]:1337 or unix:/path".to_string(),
        Some((_, port)) if port.parse::<u16>().is_err() => {
            "the port after the last colon must be a number from 0 to 65535".to_string()
        }
        Some(("", port)) => {
            format!("an address is missing, write 127.0.0.1:{port}, or --port {port} for every address")
        }
        Some((host, port)) => format!(
            "{host} is not an IP address and names are not resolved, write one such as 127.0.0.1:{port}"
        ),
    }
}

fn port(text: &str) -> std::result::Result<u16, String> {
    text.parse().map_err(|_| "expected a port from 1 to 65535, or 0 for any that is free".to_string())
}

fn whole(text: &str) -> std::result::Result<u32, String> {
    text.parse().map_err(|_| format!("expected a whole number up to {}", u32::MAX))
}

fn count(text: &str) -> std::result::Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".to_string()),
        Ok(count) => Ok(count),
    }
}

fn mode(text: &str) -> std::result::Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| "expected permissions in octal, such as 0660".to_string())
}

/// A bare number is refused: whether it means seconds or milliseconds differs from server to server.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let bare = text.bytes().all(|byte| byte.is_ascii_digit());
    humantime::parse_duration(text)
        .ok()
        .filter(|_| !bare)
        .ok_or_else(|| "expected a number with its unit, such as 250ms, 5s or 1m".to_string())
}

/// Binary units only, as written here: sizes bound memory, and that comes in powers of two.
fn size(text: &str) -> std::result::Result<u64, String> {
    let unit = SIZE_UNITS.iter().find_map(|(name, octets)| Some((text.strip_suffix(name)?, *octets)));
    let (number, octets) = unit.unwrap_or((text, 1));
    // `parse` alone would let a plus sign pass
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err("expected octets, such as 65536, or with a unit 64KiB, 1MiB or 2GiB".to_string());
    }
    let size = number.parse().ok().and_then(|number: u64| number.checked_mul(octets));
    size.ok_or_else(|| format!("expected at most {}", format_size(SIZE_MAX)))
}

/// The inverse of `size`: in the largest unit that it is a multiple of.
pub(crate) fn format_size(size: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, octets)| size != 0 && size.is_multiple_of(*octets));
    unit.map_or_else(|| size.to_string(), |(name, octets)| format!("{}{name}", size / octets))
}

fn switch(text: &str) -> std::result::Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_string()),
    }
}

/// For tests here and beside: the words of a command line, without the program's name.
#[cfg(test)]
pub(super) fn typed(words: &str) -> std::result::Result<Options, clap::Error> {
    parse_words(words.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn defaults_are_the_documented_ones() {
        let secs = Duration::from_secs;
        let documented = Options {
            port: None,
            listen: vec![],
            unix_mode: 0o666,
            backlog: 4096,
            workers: Workers::Auto,
            pin: Pin::Auto,
            user: None,
            kill_timeout: secs(5),
            pid_file: None,
            control: Control::Auto,
            metrics: None,
            access_log: None,
            access_log_format: AccessLogFormat::Combined,
            latency_log: None,
            latency_report: None,
            restart_limit: 10,
            restart_window: secs(60),
            boot_timeout: secs(10),
            stall_timeout: secs(30),
            max_requests: None,
            max_lifetime: None,
            max_memory: None,
            on_giveup: None,
            on_panic: OnPanic::Suicide,
            max_connections: None,
            header_timeout: secs(10),
            keep_alive_timeout: secs(75),
            send_timeout: secs(30),
            max_body: 1_048_576,
            body_timeout: secs(20),
            body_rate: 240,
            server_header: true,
            root: None,
            symlinks: Symlinks::Beneath,
            not_found: None,
            cache_control: None,
            file_cache: 33_554_432,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
        };
        assert_eq!(Options::default(), documented);
    }

    #[test]
    fn good_values_are_read() {
        type Check = fn(&Options) -> bool;
        let table: &[(&str, Check)] = &[
            ("--port 0", |o| o.port == Some(0)),
            ("--listen 127.0.0.1:80", |o| o.listen == [Listen::Tcp(([127, 0, 0, 1], 80).into())]),
            ("--listen [::1]:80", |o| o.listen == [Listen::Tcp("[::1]:80".parse().unwrap())]),
            ("--listen unix:a.sock,unix:/b", |o| {
                o.listen == [Listen::Unix("a.sock".into()), Listen::Unix("/b".into())]
            }),
            ("--listen 10.0.0.1:1 --listen 10.0.0.1:2", |o| o.listen.len() == 2),
            ("--unix-mode 660", |o| o.unix_mode == 0o660),
            ("--workers 3", |o| o.workers == Workers::Count(3)),
            ("--pin off", |o| o.pin == Pin::Off),
            ("--pin 0,2,4-6", |o| o.pin == Pin::Cores(vec![0, 2, 4, 5, 6])),
            ("--pin 5,1-3,2,5", |o| o.pin == Pin::Cores(vec![5, 1, 2, 3, 2, 5])),
            ("--user web", |o| o.user == Some(UserSpec { name: "web".into(), group: None })),
            ("--user 33:0", |o| o.user.as_ref().unwrap().to_string() == "33:0"),
            ("--kill-timeout 250ms", |o| o.kill_timeout == Duration::from_millis(250)),
            ("--restart-window 1m", |o| o.restart_window == Duration::from_secs(60)),
            ("--max-connections 7", |o| o.max_connections == Some(7)),
            ("--max-body 0", |o| o.max_body == 0),
            ("--max-body 65536", |o| o.max_body == 65_536),
            ("--max-body 64KiB", |o| o.max_body == 65_536),
            ("--max-body 2GiB", |o| o.max_body == 1 << 31),
            ("--body-timeout 500ms --body-rate 1KiB", |o| {
                (o.body_timeout, o.body_rate) == (Duration::from_millis(500), 1024)
            }),
            ("--server-header on", |o| o.server_header),
            ("--server-header off", |o| !o.server_header),
            ("--root ./site", |o| o.root == Some("./site".into())),
            ("--symlinks never", |o| o.symlinks == Symlinks::Never),
            ("--symlinks beneath", |o| o.symlinks == Symlinks::Beneath),
            ("--not-found /404.html", |o| o.not_found == Some("/404.html".into())),
            ("--cache-control max-age=60", |o| o.cache_control.as_deref() == Some("max-age=60")),
            ("--file-cache 1MiB", |o| o.file_cache == 1 << 20),
            ("--log-format json --log-level trace", |o| {
                (o.log_format, o.log_level) == (LogFormat::Json, LogLevel::Trace)
            }),
            ("--max-requests 5 --max-lifetime 7d --max-memory 256MiB", |o| {
                let lifetime = Duration::from_secs(7 * 24 * 60 * 60);
                (o.max_requests, o.max_lifetime, o.max_memory) == (Some(5), Some(lifetime), Some(1 << 28))
            }),
            ("--control off", |o| o.control == Control::Off),
            ("--control ./c.sock", |o| o.control == Control::Path("./c.sock".into())),
            ("--metrics 127.0.0.1:9100", |o| o.metrics == Some("127.0.0.1:9100".parse().unwrap())),
            ("--access-log -", |o| o.access_log == Some(AccessLog::Stdout)),
            ("--access-log a.log --access-log-format json", |o| {
                (&o.access_log, o.access_log_format)
                    == (&Some(AccessLog::File("a.log".into())), AccessLogFormat::Json)
            }),
            ("--pid-file /run/x.pid", |o| o.pid_file == Some("/run/x.pid".into())),
            ("--latency-log /tmp/x.hlog --latency-report x.hgrm", |o| {
                (&o.latency_log, &o.latency_report) == (&Some("/tmp/x.hlog".into()), &Some("x.hgrm".into()))
            }),
        ];
        for (words, check) in table {
            let options = typed(words).unwrap_or_else(|error| panic!("{words}: {error}"));
            assert!(check(&options), "{words}: {options:?}");
        }
    }

    #[test]
    fn bad_values_are_refused_in_a_first_line_that_says_what_is_right() {
        let table = [
            ("--port 65536", "a port from 1 to 65535"),
            ("--port http", "a port from 1 to 65535"),
            ("--listen 1337", "write 127.0.0.1:1337, or --port 1337"),
            ("--listen :1337", "write 127.0.0.1:1337, or --port 1337"),
            ("--listen localhost:80", "names are not resolved, write one such as 127.0.0.1:80"),
            ("--listen 300.0.0.1:80", "300.0.0.1 is not an IP address"),
            ("--listen 127.0.0.1", "the port is missing, write 127.0.0.1:1337"),
            ("--listen 127.0.0.1:", "number from 0 to 65535"),
            ("--listen 127.0.0.1:65536", "number from 0 to 65535"),
            ("--max-requests 0", "a whole number from 1"),
            ("--max-lifetime 5", "with its unit"),
            ("--max-memory 5MB", "1MiB"),
            ("--access-log-format xml", "invalid value 'xml' for '--access-log-format <FORMAT>'"),
            ("--listen ::1", "[::1]:1337"),
            ("--listen [::1]", "[::1]:1337"),
            ("--listen ::1:1337", "[::1]:1337"),
            ("--listen /run/x.sock", "a Unix socket is written unix:/run/x.sock"),
            ("--listen unix:", "a path must follow unix:"),
            ("--listen 127.0.0.1:1,", "expected 127.0.0.1:1337"),
            ("--unix-mode 0888", "octal, such as 0660"),
            ("--unix-mode rw", "octal, such as 0660"),
            ("--backlog many", "a whole number"),
            ("--backlog 4294967296", "up to 4294967295"),
            ("--workers all", "auto or how many"),
            ("--workers=-1", "auto or how many"),
            ("--pin on", "auto, off or a list"),
            ("--pin 0,,2", "auto, off or a list"),
            ("--pin 7-4", "the range 7-4 runs backwards, write 4-7"),
            ("--pin 1-2-3", "auto, off or a list"),
            ("--pin 0-99999999999", "core numbers go up to 8191"),
            ("--user :web", "NAME or NAME:GROUP"),
            ("--user a:", "NAME or NAME:GROUP"),
            ("--user a:b:c", "NAME or NAME:GROUP"),
            ("--kill-timeout 5", "a number with its unit, such as 250ms, 5s or 1m"),
            ("--kill-timeout 0", "a number with its unit"),
            ("--kill-timeout soon", "a number with its unit"),
            ("--kill-timeout 99999999999999999999s", "a number with its unit"),
            ("--max-body 64KB", "such as 65536, or with a unit 64KiB, 1MiB or 2GiB"),
            ("--max-body 1M", "with a unit 64KiB, 1MiB or 2GiB"),
            ("--max-body 1mib", "with a unit 64KiB, 1MiB or 2GiB"),
            ("--max-body 1.5MiB", "with a unit"),
            ("--max-body=-1", "with a unit"),
            ("--max-body +1", "with a unit"),
            ("--max-body KiB", "with a unit"),
            ("--max-body=", "value"),
            ("--max-body 18446744073709551616", "expected at most 1024GiB"),
            ("--max-body 17179869184GiB", "expected at most 1024GiB"),
            ("--body-timeout 20", "a number with its unit"),
            ("--body-rate slow", "with a unit"),
            ("--server-header yes", "expected on or off"),
            ("--symlinks all", "invalid value 'all' for '--symlinks <WHICH>'"),
            ("--file-cache 32M", "with a unit"),
            ("--log-level loud", "invalid value 'loud' for '--log-level <LEVEL>'"),
            ("--prot 1", "unexpected argument '--prot'"),
        ];
        for (words, fragment) in table {
            let error = typed(words).expect_err(words).to_string();
            assert!(error.lines().next().unwrap().contains(fragment), "{words}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_core_list_survives_being_written_and_read(runs in prop::collection::vec((0..8000usize, 1..9usize), 1..20)) {
            let cores: Vec<usize> = runs.iter().flat_map(|(first, length)| *first..first + length).collect();
            prop_assert_eq!(parse_cores(&format_cores(&cores)), Ok(cores));
        }

        #[test]
        fn a_size_survives_being_written_and_read(number in 0..2048u64, shift in 0..53u32) {
            prop_assert_eq!(size(&format_size(number << shift)), Ok(number << shift));
        }

        #[test]
        fn any_text_gives_some_cores_or_an_error(text in "[0-9,-]{0,12}|.{0,12}") {
            prop_assert!(parse_cores(&text).map_or(true, |cores| !cores.is_empty()));
        }
    }
}
