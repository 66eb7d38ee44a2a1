//! What the master says on stderr: each event one structured line, what the first worker found
//! the ring to be, and where the program panicked.
//!
//! Neighbours: called by `event_loop`; the values are `event`'s.

use super::recycling::{self, Limit, Limits};
use super::watchdog::{Excuse, HeldUp};
use crate::event::{Cause, Event, Evidence, LoopPhase, Roll, WorkerId, WorkerRef};
use crate::ipc::message::RingReport;
use crate::stats::Stats;
use std::any::Any;
use std::time::Duration;

/// A line with what was found out about a worker.
macro_rules! with_evidence {
    ($level:ident, $evidence:expr, $text:literal, $($field:tt)+) => {{
        let Evidence { phase, request, request_age, state, wchan, syscall, stack } = $evidence;
        let (phase, request_age_ms) = (phase_name(*phase), request_age.map(millis));
        tracing::$level!($($field)+, phase, request, request_age_ms, state, wchan, syscall, stack, $text);
    }};
}

/// Logs an event.
pub fn event(event: &Event, core_of: impl Fn(WorkerId) -> Option<usize>) {
    match event {
        Event::Setup { addresses, workers } => {
            tracing::info!(event = "setup", addresses = addresses.join(" "), workers, "starting workers");
        }
        Event::Fork(worker) => quietly("fork", worker, "worker started"),
        Event::Online(worker) => quietly("online", worker, "worker online"),
        Event::Listening(WorkerRef { id, slot, pid }) => {
            let core = core_of(*id).map_or_else(|| "any".to_owned(), |core| core.to_string());
            tracing::info!(event = "listening", slot, pid, id, core, "worker listening");
        }
        Event::Message { worker: WorkerRef { id, slot, pid }, .. } => {
            tracing::debug!(event = "message", slot, pid, id, "worker says");
        }
        Event::Disconnect(worker) => quietly("disconnect", worker, "channel closed"),
        Event::Close(worker) => quietly("close", worker, "worker closed"),
        Event::Exit { worker: WorkerRef { id, slot, pid }, status, cause, forced } => {
            let status = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
            let cause = name(*cause);
            if is_planned(event) {
                tracing::info!(event = "exit", slot, pid, id, status, cause, forced, "worker gone");
            } else {
                tracing::warn!(event = "exit", slot, pid, id, status, cause, forced, "worker gone");
            }
        }
        Event::Error { worker: WorkerRef { id, slot, pid }, problem } => {
            tracing::error!(event = "error", slot, pid, id, problem, "worker in trouble");
        }
        Event::Suicide(WorkerRef { id, slot, pid }) => {
            tracing::warn!(event = "suicide", slot, pid, id, "worker asks to be replaced");
        }
        Event::Stalled { worker: WorkerRef { id, slot, pid }, stalled_for, evidence } => {
            let stalled_ms = millis(*stalled_for);
            with_evidence!(
                error,
                evidence,
                "worker stands still",
                event = "stalled",
                slot,
                pid,
                id,
                stalled_ms
            );
        }
        Event::Giveup { limit, alive } => {
            tracing::error!(
                event = "giveup",
                limit,
                alive,
                "too many restarts: nobody is respawned before the restart window has passed (SIGHUP ends this early)"
            );
        }
        Event::Reload(Roll::Started) => {
            tracing::info!(event = "reload", stage = "started", "replacing all workers")
        }
        Event::Reload(Roll::Done) => tracing::info!(event = "reload", stage = "done", "all workers replaced"),
        Event::Reload(Roll::Reverting { slot, problem }) => {
            tracing::error!(event = "reload", stage = "reverting", slot, problem, "going back");
        }
        Event::Reload(Roll::Failed { slot, problem }) => {
            tracing::error!(event = "reload", stage = "failed", slot, problem, "nothing was changed");
        }
    }
}

/// Says that the program panicked over an event. Where, the panic hook has printed.
pub fn panic(event: &Event, payload: &(dyn Any + Send)) {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)");
    let named = serde_json::to_value(event).unwrap_or_default();
    tracing::error!(during = named["event"].as_str(), panic = text, "panic in on_event: the master goes on");
}

/// Says that the last worker is gone, and what all of them have done.
pub fn stopped(Stats { counters, latency, .. }: &Stats, forced_kills: u64) {
    let micros = |share| latency.quantile(share).as_nanos() as f64 / 1e3;
    tracing::info!(
        forced_kills,
        connections = counters.accepted,
        requests = counters.requests,
        idle_closes = counters.idle_closes,
        p50_us = micros(0.5),
        p99_us = micros(0.99),
        max_us = micros(1.0),
        "stopped"
    );
}

/// Says that the master was held up.
pub fn held_up(held_up: HeldUp) {
    tracing::warn!(
        late_ms = millis(held_up.late),
        asleep_ms = millis(held_up.asleep),
        "the master was held up (a suspended machine, SIGSTOP, a debugger, an on_event that blocks): no worker is \
         judged by that time"
    );
}

/// Says what a worker is at that has not done in time what it was to do, before it is killed for that.
pub fn overdue(WorkerRef { id, slot, pid }: &WorkerRef, cause: Cause, evidence: &Evidence) {
    let limit = name(cause);
    with_evidence!(warn, evidence, "worker is late and is killed", slot, pid, id, limit);
}

/// Says why a worker that stands still is neither replaced nor killed.
pub fn left_alone(WorkerRef { id, slot, pid }: &WorkerRef, excuse: Excuse) {
    match excuse {
        Excuse::Traced(tracer) => {
            tracing::warn!(
                slot,
                pid,
                id,
                tracer,
                "worker stands still and is left alone as long as it is traced"
            );
        }
        Excuse::DumpsCore => {
            tracing::warn!(slot, pid, id, "worker stands still and is left alone: it dumps core");
        }
    }
}

/// Says that a worker that stood still goes on.
pub fn moves_again(WorkerRef { id, slot, pid }: &WorkerRef, after: Duration) {
    tracing::warn!(slot, pid, id, stalled_ms = millis(after), "worker goes on");
}

/// Says why a worker is replaced that goes on well. `limits` are its own.
pub fn recycle(
    WorkerRef { id, slot, pid }: &WorkerRef,
    limit: Limit,
    limits: &Limits,
    worker: &recycling::Worker,
) {
    let (has, may) = match limit {
        Limit::Requests => (worker.requests, limits.requests),
        Limit::Lifetime => (millis(worker.age), limits.lifetime.map(millis)),
        Limit::Memory => (worker.memory.unwrap_or(0), limits.memory),
    };
    let limit = limit.name();
    tracing::info!(slot, pid, id, limit, has, may, "worker has come to a limit and is replaced");
}

/// Says what the kernel offers; once.
pub fn ring(ring: &RingReport) {
    let missing = if ring.missing.is_empty() { "none".to_owned() } else { ring.missing.join(", ") };
    tracing::info!(kernel = ring.kernel, using = ring.using.join(", "), missing, "io_uring");
}

fn quietly(event: &str, WorkerRef { id, slot, pid }: &WorkerRef, text: &str) {
    tracing::debug!(event, slot, pid, id, "{text}");
}

fn is_planned(event: &Event) -> bool {
    matches!(
        event,
        Event::Exit {
            forced: false,
            cause: Cause::Reload
                | Cause::Disconnect
                | Cause::Recycle
                | Cause::Scale
                | Cause::Stop
                | Cause::Suicide,
            ..
        }
    )
}

/// As the log and the metrics call it.
pub fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::Crash => "crash",
        Cause::Suicide => "suicide",
        Cause::Reload => "reload",
        Cause::Disconnect => "disconnect",
        Cause::Scale => "scale",
        Cause::Stop => "stop",
        Cause::BootTimeout => "boot-timeout",
        Cause::KillTimeout => "kill-timeout",
        Cause::Stall => "stall",
        Cause::Recycle => "recycle",
        Cause::Ring => "ring",
        Cause::Spawn => "spawn",
    }
}

fn phase_name(phase: LoopPhase) -> &'static str {
    match phase {
        LoopPhase::Starting => "starting",
        LoopPhase::Waiting => "waiting",
        LoopPhase::Turning => "turning",
        LoopPhase::Admitting => "admitting",
        LoopPhase::Handling => "handling",
        LoopPhase::Polling => "polling",
        LoopPhase::Streaming => "streaming",
        LoopPhase::HandlingMessage => "handling-message",
        LoopPhase::HandlingSocket => "handling-socket",
        LoopPhase::BeforeDrain => "before-drain",
        LoopPhase::AfterDrain => "after-drain",
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
