//! The flags of `cargo bench --bench versus`.

use crate::peers::PEERS;
use crate::profiles::PROFILES;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// uringd beside other servers, driven with uringload
#[derive(Debug, Parser)]
#[command(name = "versus", version)]
pub struct Options {
    /// Only this profile; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = profile)]
    pub profile: Vec<String>,

    /// Only this server beside uringd; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = peer)]
    pub peer: Vec<String>,

    /// How often each server is measured in a profile; default: 3, with --quick 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,

    /// How long each measurement is; default: 1.5, with --quick 0.3
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub seconds: Option<f64>,

    /// Everything once and briefly, with few connections: shows that it works, and measures nothing
    #[arg(long)]
    pub quick: bool,

    /// Where to write the results; default: benches/results/DATE-MACHINE, with --quick target/versus-quick
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Cores of the servers, such as 0 or 0-1; the others are the client's; default: the first of those there are
    #[arg(long, value_name = "CORES", value_parser = cores)]
    pub server_cores: Option<Cores>,

    /// Build the servers of benches/peers before
    #[arg(long)]
    pub build_peers: bool,

    /// List profiles and servers, and do nothing else
    #[arg(long)]
    pub list: bool,

    /// Write README's figures from the results in this directory, and do nothing else
    #[arg(long, value_name = "DIR")]
    pub readme: Option<PathBuf>,

    /// Keep what `cargo bench --bench micro` has measured last beside the results in this directory, for README, and do
    /// nothing else
    #[arg(long, value_name = "DIR")]
    pub keep_micro: Option<PathBuf>,

    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// In the order typed.
#[derive(Debug, Clone)]
pub struct Cores(pub Vec<usize>);

impl Options {
    /// How often.
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// How long one measurement is.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(if self.quick { 0.3 } else { 1.5 }))
    }

    /// Whether it was asked for.
    pub fn wants_profile(&self, name: &str) -> bool {
        self.profile.is_empty() || self.profile.iter().any(|wanted| wanted == name)
    }

    /// Whether it was asked for; all others are compared with the first, so that one always is.
    pub fn wants_peer(&self, name: &str) -> bool {
        self.peer.is_empty() || name == PEERS[0].name || self.peer.iter().any(|wanted| wanted == name)
    }
}

fn profile(text: &str) -> Result<String, String> {
    one_of(text, PROFILES.iter().map(|profile| profile.name))
}

fn peer(text: &str) -> Result<String, String> {
    one_of(text, PEERS.iter().map(|peer| peer.name))
}

fn one_of(text: &str, names: impl Iterator<Item = &'static str>) -> Result<String, String> {
    let names: Vec<_> = names.collect();
    match names.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("there is {}", names.join(", "))),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected seconds from 0.1 to 3600, such as 1.5".to_owned())
}

fn cores(text: &str) -> Result<Cores, String> {
    let core = |text: &str| text.parse::<usize>().ok().filter(|core| *core < 8192);
    let mut cores = vec![];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (core(first), core(last)) {
            (Some(first), Some(last)) if first <= last => cores.extend(first..=last),
            _ => return Err("expected cores such as 0 or 0,2-3".to_owned()),
        }
    }
    Ok(Cores(cores))
}
