//! The options as one would type them: the inverse of the rows' parsers, for values that nobody has typed.
//!
//! Neighbours: `options` has the rows and parsers, `origin` shows the texts.

use super::options::{Pin, Workers, format_cores, format_size};
use super::{AccessLog, Control, Listen, Options};
use std::path::Path;
use std::time::Duration;

/// Each option's name and value; `None` where there is none.
pub(super) fn options(options: &Options) -> Vec<(&'static str, Option<String>)> {
    // whole, so that a new option is not forgotten
    let Options {
        port,
        listen,
        unix_mode,
        backlog,
        workers,
        pin,
        user,
        kill_timeout,
        pid_file,
        control,
        metrics,
        latency_log,
        latency_report,
        restart_limit,
        restart_window,
        boot_timeout,
        stall_timeout,
        max_requests,
        max_lifetime,
        max_memory,
        on_giveup,
        on_panic,
        max_connections,
        header_timeout,
        keep_alive_timeout,
        send_timeout,
        max_body,
        body_timeout,
        body_rate,
        server_header,
        root,
        symlinks,
        not_found,
        cache_control,
        file_cache,
        access_log,
        access_log_format,
        log_format,
        log_level,
    } = options;
    vec![
        ("port", port.map(|port| port.to_string())),
        ("listen", (!listen.is_empty()).then(|| addresses(listen))),
        ("unix-mode", Some(format!("{unix_mode:04o}"))),
        ("backlog", Some(backlog.to_string())),
        ("workers", Some(count(*workers))),
        ("pin", Some(cores(pin))),
        ("user", user.as_ref().map(ToString::to_string)),
        ("kill-timeout", Some(time(*kill_timeout))),
        ("pid-file", pid_file.as_deref().map(path)),
        ("control", Some(socket(control))),
        ("metrics", metrics.as_ref().map(ToString::to_string)),
        ("latency-log", latency_log.as_deref().map(path)),
        ("latency-report", latency_report.as_deref().map(path)),
        ("restart-limit", Some(restart_limit.to_string())),
        ("restart-window", Some(time(*restart_window))),
        ("boot-timeout", Some(time(*boot_timeout))),
        ("stall-timeout", Some(time(*stall_timeout))),
        ("max-requests", max_requests.map(|count| count.to_string())),
        ("max-lifetime", max_lifetime.map(time)),
        ("max-memory", max_memory.map(format_size)),
        ("on-giveup", on_giveup.clone()),
        ("on-panic", Some(word(on_panic))),
        ("max-connections", max_connections.map(|count| count.to_string())),
        ("header-timeout", Some(time(*header_timeout))),
        ("keep-alive-timeout", Some(time(*keep_alive_timeout))),
        ("send-timeout", Some(time(*send_timeout))),
        ("max-body", Some(format_size(*max_body))),
        ("body-timeout", Some(time(*body_timeout))),
        ("body-rate", Some(format_size(*body_rate))),
        ("server-header", Some(if *server_header { "on" } else { "off" }.to_owned())),
        ("root", root.as_deref().map(path)),
        ("symlinks", Some(word(symlinks))),
        ("not-found", not_found.as_deref().map(path)),
        ("cache-control", cache_control.clone()),
        ("file-cache", Some(format_size(*file_cache))),
        ("access-log", access_log.as_ref().map(AccessLog::to_string)),
        ("access-log-format", Some(word(access_log_format))),
        ("log-format", Some(word(log_format))),
        ("log-level", Some(word(log_level))),
    ]
}

/// A row's default as `--help` says it.
pub(crate) fn default_of(row: &clap::Arg) -> Option<String> {
    row.get_default_values().first().map(|value| value.to_string_lossy().into_owned())
}

fn addresses(listen: &[Listen]) -> String {
    listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn count(workers: Workers) -> String {
    match workers {
        Workers::Auto => "auto".to_owned(),
        Workers::Count(count) => count.to_string(),
    }
}

fn cores(pin: &Pin) -> String {
    match pin {
        Pin::Auto => "auto".to_owned(),
        Pin::Off => "off".to_owned(),
        Pin::Cores(cores) => format_cores(cores),
    }
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn socket(control: &Control) -> String {
    match control {
        Control::Auto => "auto".to_owned(),
        Control::Off => "off".to_owned(),
        Control::Path(file) => path(file),
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn word(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::options::{rows, typed};
    use super::*;

    /// As a command line, what is written reads as what it was.
    fn survives(before: &Options) {
        let words: Vec<String> = options(before)
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| format!("--{name}={}", value.replace(' ', ""))))
            .collect();
        assert_eq!(typed(&words.join(" ")).as_ref().map_err(ToString::to_string), Ok(before));
    }

    #[test]
    fn every_row_is_written_in_its_order() {
        let command = rows();
        let names: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let written: Vec<&str> = options(&Options::default()).iter().map(|(name, _)| *name).collect();
        assert_eq!(written, names);
    }

    #[test]
    fn what_is_written_reads_as_what_it_was() {
        survives(&Options::default());
        let words = [
            "--port 80 --listen 127.0.0.1:1,[::1]:2,unix:/a --unix-mode 600 --backlog 7 --workers 3 --pin 0,2-4",
            "--workers 1 --pin off --user web:33 --kill-timeout 250ms --pid-file /run/x --control off",
            "--control ./c.sock --metrics 127.0.0.1:9 --latency-log a --latency-report b --restart-limit 0",
            "--restart-window 90s --boot-timeout 1h --stall-timeout 1500ms --max-requests 5 --max-lifetime 7d",
            "--max-memory 2GiB --on-giveup reboot --on-panic abort --max-connections 9 --header-timeout 1s",
            "--keep-alive-timeout 61s --send-timeout 2m --max-body 1025 --body-timeout 3s --body-rate 0",
            "--server-header off --root . --symlinks never --not-found a --cache-control no-cache --file-cache 0",
            "--access-log - --access-log-format json --log-format json --log-level trace",
            "--access-log a.log --access-log-format common",
        ];
        for line in words {
            survives(&typed(line).unwrap());
        }
    }
}
