//! Connections on their way in: queues, ports, and who handles a network card's packets.
//!
//! Neighbours: `machine`, and its sets of cores.

use super::{Finding, Verdict};
use crate::config::options::format_cores;
use crate::doctor::machine::{Machine, parse_list};
use std::collections::BTreeMap;

/// Half of the default range.
const PORTS_MIN: u64 = 14_000;
/// uringd asks for as long a queue (`--backlog`).
const QUEUE: u64 = 4096;
/// In percent.
const TRACKED_MAX: u64 = 75;

/// tcp_max_syn_backlog has a say only where there are no SYN cookies (tcp_conn_request() in net/ipv4/tcp_input.c).
pub fn syn_backlog(machine: &Machine) -> Finding {
    let number = |name: &str| machine.root.value::<u64>(format!("proc/sys/net/ipv4/{name}"));
    match (number("tcp_max_syn_backlog"), number("tcp_syncookies")) {
        (None, _) | (_, None) => Finding::unknown("/proc/sys/net/ipv4 cannot be read here"),
        (Some(backlog), Some(0)) if backlog < QUEUE => {
            let reason = format!(
                "without SYN cookies a listener remembers {} half-open connections",
                backlog * 3 / 4 + 1
            );
            Finding::better(backlog.to_string(), reason)
        }
        (Some(backlog), Some(0)) => Finding::ok(backlog.to_string(), ""),
        (Some(backlog), Some(_)) => {
            Finding::ok(backlog.to_string(), "it has no say while tcp_syncookies is on")
        }
    }
}

/// Ports for connections that begin here: to a back end, or from a load generator. Those of clients take none.
pub fn port_range(machine: &Machine) -> Finding {
    let Some(range) = machine.root.text("proc/sys/net/ipv4/ip_local_port_range") else {
        return Finding::unknown("/proc/sys/net/ipv4/ip_local_port_range cannot be read here");
    };
    let ends: Vec<u64> = range.split_whitespace().filter_map(|end| end.parse().ok()).collect();
    let [first, last] = ends[..] else { return Finding::unknown(format!("{range:?} is no range")) };
    let (now, ports) = (format!("{first}-{last}"), (last + 1).saturating_sub(first));
    if ports < PORTS_MIN {
        let reason =
            format!("{ports} connections can be open from here to one address and port of another server");
        return Finding::better(now, reason);
    }
    Finding::ok(now, "for connections that begin here; clients' take none")
}

/// The firewall's table of connections: when it is full new ones are dropped.
pub fn connection_tracking(machine: &Machine) -> Finding {
    let number =
        |name: &str| machine.root.value::<u64>(format!("proc/sys/net/netfilter/nf_conntrack_{name}"));
    let (Some(count), Some(max)) = (number("count"), number("max")) else {
        return Finding::ok("not tracked", "");
    };
    let now = format!("{count} of {max}");
    if count * 100 >= max * TRACKED_MAX {
        let set = vec![format!("sysctl -w net.netfilter.nf_conntrack_max={}", max * 4)];
        return Finding::better(now, "when the table is full new connections are dropped").with(set);
    }
    Finding::ok(now, "")
}

/// net.core.busy_read and busy_poll: a trade that only a measurement decides.
pub fn busy_poll(machine: &Machine) -> Finding {
    let number = |name: &str| machine.root.value::<u64>(format!("proc/sys/net/core/{name}"));
    match (number("busy_read"), number("busy_poll")) {
        (None, None) => Finding::unknown("/proc/sys/net/core/busy_read cannot be read here"),
        (read, poll) => {
            let (read, poll) = (read.unwrap_or(0), poll.unwrap_or(0));
            let now = format!("{read}, {poll}");
            match read + poll {
                0 => Finding::ok(now, "off"),
                _ => Finding::new(
                    Verdict::Unknown,
                    now,
                    "cores poll the network card instead of sleeping: measure what that buys",
                ),
            }
        }
    }
}

/// A network card: one that is a device, not a bridge, a tunnel or a container's end of something.
struct Card {
    name: String,
    receive: Vec<String>,
    send: Vec<String>,
}

fn cards(machine: &Machine) -> Vec<Card> {
    let interfaces = machine.root.names("sys/class/net");
    let cards =
        interfaces.into_iter().filter(|name| machine.root.exists(format!("sys/class/net/{name}/device")));
    let cards = cards.map(|name| {
        let queues = machine.root.names(format!("sys/class/net/{name}/queues"));
        let of = |kind: &str| queues.iter().filter(|queue| queue.starts_with(kind)).cloned().collect();
        Card { receive: of("rx-"), send: of("tx-"), name }
    });
    cards.collect()
}

const NO_CARD: &str = "no network card can be seen here (a container's is its host's)";

/// Whether the receive queues of a card interrupt different cores.
pub fn irq_affinity(machine: &Machine) -> Finding {
    let cards = cards(machine);
    if cards.is_empty() {
        return Finding::unknown(NO_CARD);
    }
    let (mut now, mut set, mut reasons, mut untold) = (vec![], vec![], vec![], vec![]);
    for Card { name, receive, .. } in &cards {
        let vectors = receive_vectors(machine, name, receive.len());
        let mut targets: Vec<usize> = vectors.iter().flat_map(|irq| targets(machine, irq)).collect();
        targets.sort_unstable();
        targets.dedup();
        if receive.len() == 1 && targets.is_empty() {
            // nothing to spread, whatever its interrupt is called
            now.push(format!("{name}: 1 queue"));
            continue;
        }
        if targets.is_empty() {
            untold.push(name.as_str());
            continue;
        }
        now.push(format!("{name}: {} queue(s) on core(s) {}", receive.len(), format_cores(&targets)));
        let reachable = receive.len().min(machine.cores.len().max(1));
        if receive.len() > 1 && targets.len() < reachable {
            reasons.push(format!("{} core(s) take in all of its packets", targets.len()));
            let spread = vectors.iter().zip(machine.cores.iter().cycle());
            set.extend(spread.map(|(irq, core)| format!("echo {core} > /proc/irq/{irq}/smp_affinity_list")));
        }
    }
    if !untold.is_empty() {
        let untold = untold.join(", ");
        reasons.push(format!(
            "which interrupts of {untold} are receive queues' cannot be told here (see `uringd doctor irq_affinity`)"
        ));
    }
    let (now, reasons) = (now.join("; "), reasons.join("; "));
    match (set.is_empty(), untold.is_empty()) {
        (false, _) => Finding::better(now, reasons).with(set),
        (true, false) => Finding::new(Verdict::Unknown, now, reasons),
        (true, true) => Finding::ok(now, reasons),
    }
}

/// The numbers of a card's interrupts. A virtual one's are its PCI device's, one level up.
fn interrupts(machine: &Machine, card: &str) -> Vec<String> {
    let device = format!("sys/class/net/{card}/device");
    let own = machine.root.names(format!("{device}/msi_irqs"));
    if own.is_empty() { machine.root.names(format!("{device}/../msi_irqs")) } else { own }
}

/// The numbers of the interrupts of a card's receive queues, in the order of the queues; none where names do not tell of each.
/// A card has others as well: for changes of its state, for queues that only send, for queues that are not in use.
fn receive_vectors(machine: &Machine, card: &str, queues: usize) -> Vec<String> {
    let named = interrupts(machine, card).into_iter().filter_map(|irq| {
        // drivers' names for it are directories here
        let names = machine.root.names(format!("proc/irq/{irq}"));
        let queue = names.iter().find_map(|name| receive_queue(name)).filter(|queue| *queue < queues)?;
        Some((queue, irq))
    });
    let named: BTreeMap<usize, String> = named.collect();
    if named.len() == queues { named.into_values().collect() } else { Vec::new() }
}

/// Which receive queue an interrupt of this name is for: `virtio0-input.1`, `eth0-rx-1`, `i40e-eth0-TxRx-1`, `eth0-Tx-Rx-1`.
fn receive_queue(name: &str) -> Option<usize> {
    let (driver, queue) = name.rsplit_once(['-', '.'])?;
    let dot = name.as_bytes()[driver.len()] == b'.';
    let receives = if dot {
        driver.starts_with("virtio") && driver.ends_with("-input")
    } else {
        let driver = driver.to_ascii_lowercase();
        driver.ends_with("-rx") || driver.ends_with("-txrx")
    };
    queue.parse().ok().filter(|_| receives)
}

/// The cores that an interrupt really goes to; where the kernel does not say, those that it may go to.
fn targets(machine: &Machine, irq: &str) -> Vec<usize> {
    let read =
        |name: &str| machine.root.text(format!("proc/irq/{irq}/{name}")).filter(|text| !text.is_empty());
    parse_list(&read("effective_affinity_list").or_else(|| read("smp_affinity_list")).unwrap_or_default())
}

/// RPS where there are fewer queues than cores, which only a measurement decides, and XPS where there are several to send
/// from (Documentation/networking/scaling.rst).
pub fn packet_steering(machine: &Machine) -> Finding {
    let cards = cards(machine);
    if cards.is_empty() {
        return Finding::unknown(NO_CARD);
    }
    let cores = machine.cores.len();
    let (mut now, mut rps, mut xps) = (vec![], vec![], vec![]);
    let mut few = vec![];
    for Card { name, receive, send } in &cards {
        let off = |queue: &str, file: &str| {
            let mask = machine.root.text(format!("sys/class/net/{name}/queues/{queue}/{file}"));
            mask.is_some_and(|mask| mask.chars().all(|c| c == '0' || c == ','))
        };
        now.push(format!("{name}: {} queue(s) for {cores} core(s)", receive.len()));
        let echo = |queue: &str, file: &str, cores: &[usize]| {
            format!("echo {} > /sys/class/net/{name}/queues/{queue}/{file}", mask(cores))
        };
        if receive.len() < cores && receive.iter().any(|queue| off(queue, "rps_cpus")) {
            few.push(receive.len().to_string());
            let helpers = helpers(machine, name, receive.len());
            let known = (0..).zip(helpers).filter(|(_, cores)| !cores.is_empty());
            rps.extend(
                known.map(|(number, cores): (usize, _)| echo(&format!("rx-{number}"), "rps_cpus", &cores)),
            );
        }
        if send.len() > 1 && send.iter().all(|queue| off(queue, "xps_cpus")) {
            let shares = send.iter().enumerate().map(|(place, queue)| {
                let share: Vec<usize> =
                    machine.cores.iter().copied().skip(place).step_by(send.len()).collect();
                echo(queue, "xps_cpus", &share)
            });
            xps.extend(shares);
        }
    }
    let mut reasons = vec![];
    if !xps.is_empty() {
        reasons.push(
            "without XPS a hash chooses a connection's queue, and cores send from each other's".to_owned(),
        );
    }
    if !few.is_empty() {
        reasons.push(format!(
            "{} core(s) may be all that take in packets; RPS shares that out, and costs where there are few: measure it",
            few.join(", ")
        ));
    }
    let (now, reasons) = (now.join("; "), reasons.join("; "));
    match (xps.is_empty(), few.is_empty()) {
        (false, _) => Finding::better(now, reasons).with([xps, rps].concat()),
        (true, false) => Finding::new(Verdict::Unknown, now, reasons).with(rps),
        (true, true) => Finding::ok(now, reasons),
    }
}

/// To which cores each of a card's receive queues may pass packets on: all but the one that it interrupts, which has enough to
/// do. None where that is not known.
fn helpers(machine: &Machine, card: &str, queues: usize) -> Vec<Vec<usize>> {
    let vectors = receive_vectors(machine, card, queues);
    let others = |irq: &String| {
        let taken = targets(machine, irq);
        let rest = machine.cores.iter().copied().filter(|core| !taken.contains(core));
        if taken.is_empty() { Vec::new() } else { rest.collect() }
    };
    vectors.iter().map(others).collect()
}

/// As the kernel reads and writes sets of cores in hexadecimal: groups of 32, the highest first.
fn mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(1, |last| last / 32 + 1);
    let words = (0..groups).rev().map(|group| {
        let own = cores.iter().filter(|core| *core / 32 == group);
        own.fold(0_u32, |word, core| word | 1 << (core % 32))
    });
    words
        .enumerate()
        .map(|(place, word)| if place == 0 { format!("{word:x}") } else { format!(",{word:08x}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_written_as_the_kernel_writes_them() {
        assert_eq!(mask(&[]), "0");
        assert_eq!(mask(&[0, 1, 4]), "13");
        assert_eq!(mask(&[31]), "80000000");
        assert_eq!(mask(&[0, 32]), "1,00000001");
        assert_eq!(mask(&[65]), "2,00000000,00000000");
    }

    #[test]
    fn receive_queues_are_told_by_the_names_of_their_interrupts() {
        for name in ["virtio0-input.3", "eth0-rx-3", "i40e-eth0-TxRx-3", "ens5-Tx-Rx-3"] {
            assert_eq!(receive_queue(name), Some(3), "{name}");
        }
        let others =
            ["virtio0-config", "virtio0-output.3", "virtio4-input", "eth0-tx-3", "eth0", "eth0-3", ""];
        for name in others.into_iter().chain(["virtio0-virtqueues", "eth0-rx-", "smp_affinity", "node"]) {
            assert_eq!(receive_queue(name), None, "{name}");
        }
    }
}
