//! uringd beside other servers: each is started here on loopback and driven with `uringload` in short interleaved
//! rounds, one server's run after the other's, so that what the machine does to one it does to all.
//!
//! ```text
//! cargo bench --bench versus                                  all profiles, about twelve minutes
//! cargo bench --bench versus -- --list                        the profiles and the servers
//! cargo bench --bench versus -- --profile small-64 --peer nginx --rounds 5 --seconds 3
//! cargo bench --bench versus -- --quick                       whether all of it works, in a minute or two
//! cargo bench --bench versus -- --build-peers                 builds the Rust servers of benches/peers first
//! cargo bench --bench versus -- --keep-micro benches/results/DIR
//! cargo bench --bench generators -- --save benches/results/DIR
//!                                                             beside the results, for README
//! cargo bench --bench versus -- --readme benches/results/DIR  writes README's figures
//! ```
//!
//! What is there is measured, what is not is named as skipped. nginx, h2o and node are taken from the PATH.

#[path = "versus/affinity.rs"]
mod affinity;
#[path = "versus/guard.rs"]
mod guard;
#[path = "versus/idle.rs"]
mod idle;
#[path = "versus/load.rs"]
mod load;
#[path = "versus/machine.rs"]
mod machine;
#[path = "versus/options.rs"]
mod options;
#[path = "versus/parts.rs"]
mod parts;
#[path = "versus/peers.rs"]
mod peers;
#[path = "versus/process.rs"]
mod process;
#[path = "versus/profiles.rs"]
mod profiles;
#[path = "versus/readme.rs"]
mod readme;
#[path = "versus/results.rs"]
mod results;
#[path = "versus/rounds.rs"]
mod rounds;
#[path = "versus/sampler.rs"]
mod sampler;
#[path = "versus/save.rs"]
mod save;
#[path = "versus/server.rs"]
mod server;
#[path = "versus/site.rs"]
mod site;
#[path = "versus/tables.rs"]
mod tables;
#[path = "versus/trouble.rs"]
mod trouble;

use clap::Parser;
use options::Options;
use std::path::Path;
use std::process::ExitCode;

/// Which part a process of the bench plays, where it is not the bench itself.
const PART: &str = "VERSUS_PART";

fn main() -> ExitCode {
    match std::env::var(PART).as_deref() {
        Ok(server::PART) => return server::main(),
        Ok(guard::PART) => return guard::main(),
        _ => {}
    }
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("versus: {line}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(directory) = &options.readme {
        return readme::rewrite(root, directory);
    }
    if let Some(directory) = &options.keep_micro {
        return parts::keep_micro(peers::target_directory(), directory);
    }
    if options.list {
        print!("{}", profiles::list());
        print!("{}", peers::list());
        return Ok(());
    }
    if options.build_peers {
        peers::build(root)?;
    }
    rounds::run(options, root)
}
