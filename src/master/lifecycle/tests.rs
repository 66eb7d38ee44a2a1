//! The rules of the lifecycle as scripts: on the left what happens, on the right everything that follows.
//!
//! Neighbours: `simulation` searches for what no script thought of.

use super::*;
use crate::event::Roll;

/// Small numbers, so that a script reaches every limit in a few lines: two restarts a minute, two listeners.
pub(super) fn limits() -> Limits {
    Limits {
        kill_timeout: Duration::from_secs(5),
        boot_timeout: Duration::from_secs(10),
        restart_limit: 2,
        restart_window: Duration::from_secs(60),
        listeners: 2,
    }
}

/// Plays a script of lines `what happens | what follows; what follows`. A line without `|` may be followed by
/// anything; `phases` and `deadline` (in seconds from now) look without touching.
fn play(wanted: usize, script: &str) {
    let mut stage =
        Stage { lifecycle: Lifecycle::new(wanted, limits()), now: Instant::now(), actions: Vec::new() };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (happens, follows) = match line.split_once('|') {
            Some((happens, follows)) => (happens.trim(), Some(follows.trim())),
            None => (line, None),
        };
        let seen = stage.play_line(happens);
        if let Some(follows) = follows {
            assert_eq!(seen, follows, "after `{happens}` in the script:\n{script}");
        }
    }
}

struct Stage {
    lifecycle: Lifecycle,
    now: Instant,
    actions: Vec<Action>,
}

impl Stage {
    fn play_line(&mut self, happens: &str) -> String {
        let words: Vec<&str> = happens.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u32>().unwrap();
        match words[0] {
            "phases" => return self.phases(),
            "deadline" => return self.deadline(),
            "later" => self.now += Duration::from_secs(number(1).into()),
            "wait" => {
                self.now += Duration::from_secs(number(1).into());
                self.feed(Input::Tick);
            }
            "held-up" => {
                let time = Duration::from_secs(number(1).into());
                self.now += time;
                self.feed(Input::HeldUp(time));
            }
            "up" => {
                let id = number(1);
                self.feed(Input::Spawned { id, pid: 100 + id as i32 });
                self.feed(Input::Online { id });
                self.feed(Input::Listening { id, listener: 0 });
                self.feed(Input::Listening { id, listener: 1 });
            }
            "crash" => {
                self.feed(Input::Exited { id: number(1), status: Some(ExitStatus::Signal(11)) });
            }
            // the configuration is as it was
            "roll" => {
                self.feed(Input::Command(Command::Roll));
                if self.actions.contains(&Action::ReadConfig) {
                    self.actions.retain(|action| *action != Action::ReadConfig);
                    self.feed(input("same", &[]));
                }
            }
            word => self.feed(input(word, &words[1..])),
        }
        let seen: Vec<String> = self.actions.drain(..).map(|action| show(&action)).collect();
        seen.join("; ")
    }

    fn feed(&mut self, input: Input) {
        self.lifecycle.step(input, self.now, &mut self.actions);
    }

    fn phases(&self) -> String {
        let phases: Vec<String> =
            self.lifecycle.workers().map(|worker| format!("{} {:?}", worker.id, worker.phase)).collect();
        phases.join("; ")
    }

    fn deadline(&self) -> String {
        match self.lifecycle.next_deadline() {
            Some(at) => at.duration_since(self.now).as_secs().to_string(),
            None => "none".into(),
        }
    }
}

fn input(word: &str, arguments: &[&str]) -> Input {
    let id = arguments.first().map_or(0, |id| id.parse().unwrap());
    let problem = "broken".to_string();
    match word {
        "tick" => Input::Tick,
        "spawned" => Input::Spawned { id, pid: 100 + id as i32 },
        "no-spawn" => Input::SpawnFailed { id, problem },
        "online" => Input::Online { id },
        "refused" => Input::Refused { id, cause: RingRefusal::Seccomp },
        "failed" => Input::Failed { id, problem },
        "listening" => Input::Listening { id, listener: arguments[1].parse().unwrap() },
        "suicide" => Input::Suicide { id },
        "disconnect" => Input::Disconnected { id },
        "exit" => Input::Exited { id, status: Some(ExitStatus::Code(0)) },
        "no-kill" => Input::KillFailed { id, problem },
        "stop" => Input::Command(Command::Stop),
        "stop-now" => Input::Command(Command::StopNow),
        "hup" => Input::Command(Command::Roll),
        "same" => Input::Configured(Ok(Settings { limits: limits(), wanted: None, changed: false })),
        "new" => Input::Configured(Ok(Settings {
            limits: Limits { listeners: 1, ..limits() },
            wanted: arguments.first().map(|wanted| wanted.parse().unwrap()),
            changed: true,
        })),
        "bad" => Input::Configured(Err(problem)),
        "grow" => Input::Command(Command::Grow),
        "shrink" => Input::Command(Command::Shrink),
        "part" => Input::Command(Command::Disconnect(id)),
        "stalled" => Input::Stalled { id, anew: true },
        "still-stalled" => Input::Stalled { id, anew: false },
        "recycle" => Input::Command(Command::Recycle(id)),
        _ => panic!("no such line: {word}"),
    }
}

fn show(action: &Action) -> String {
    match action {
        Action::Spawn { id, slot } => format!("spawn {id}@{slot}"),
        Action::Drain { id, stop: false, .. } => format!("drain {id}"),
        Action::Drain { id, stop: true, .. } => format!("drain {id} to stop"),
        Action::Stay { id } => format!("stay {id}"),
        Action::Kill { id } => format!("kill {id}"),
        Action::CloseListeners => "close listeners".into(),
        Action::ReadConfig => "read".into(),
        Action::Adopt => "adopt".into(),
        Action::Revert => "revert".into(),
        Action::Forget => "forget".into(),
        Action::Finish(Outcome::Refused(_)) => "finish Refused".into(),
        Action::Finish(outcome) => format!("finish {outcome:?}"),
        Action::Emit(event) => show_event(event),
    }
}

fn show_event(event: &Event) -> String {
    match event {
        Event::Fork(worker) => format!("Fork {}", worker.id),
        Event::Online(worker) => format!("Online {}", worker.id),
        Event::Listening(worker) => format!("Listening {}", worker.id),
        Event::Disconnect(worker) => format!("Disconnect {}", worker.id),
        Event::Exit { worker, cause, forced: false, .. } => format!("Exit {} {cause:?}", worker.id),
        Event::Exit { worker, cause, forced: true, .. } => format!("Exit {} {cause:?} forced", worker.id),
        Event::Close(worker) => format!("Close {}", worker.id),
        Event::Error { worker, problem } if problem == stall::LEFT => format!("Error {} left", worker.id),
        Event::Error { worker, problem } => format!("Error {} {problem}", worker.id),
        Event::Suicide(worker) => format!("Suicide {}", worker.id),
        Event::Giveup { limit, alive } => format!("Giveup {limit} {alive}"),
        Event::Reload(Roll::Failed { slot: Some(slot), .. }) => format!("Reload Failed {slot}"),
        Event::Reload(Roll::Failed { problem, .. }) => format!("Reload Failed {problem}"),
        Event::Reload(Roll::Reverting { slot, .. }) => format!("Reload Reverting {slot}"),
        Event::Reload(roll) => format!("Reload {roll:?}"),
        other => panic!("not an event of the lifecycle: {other:?}"),
    }
}

// Starting.

#[test]
fn first_step_starts_the_pool_and_costs_nothing() {
    play(
        4,
        "tick            | spawn 1@0; spawn 2@1; spawn 3@2; spawn 4@3
         tick            |
         deadline        | none
         spawned 1       | Fork 1
         deadline        | 10
         phases          | 1 Starting; 2 Starting; 3 Starting; 4 Starting",
    );
}

#[test]
fn worker_listens_when_it_has_said_so_of_each_listener() {
    play(
        1,
        "tick
         spawned 1       | Fork 1
         online 1        | Online 1
         online 1        |
         phases          | 1 Online
         listening 1 0   |
         listening 1 0   |
         listening 1 7   |
         phases          | 1 Online
         listening 1 1   | Listening 1
         listening 1 1   |
         phases          | 1 Listening
         deadline        | none",
    );
}

#[test]
fn unknown_gone_and_unspawned_workers_are_not_believed() {
    play(
        1,
        "tick
         online 1        |
         suicide 1       |
         exit 1          |
         up 1
         spawned 1       |
         no-spawn 1      |
         no-kill 1       |
         exit 1          | Disconnect 1; Exit 1 Crash; Close 1; spawn 2@0
         suicide 1       |
         exit 1          |
         suicide 9       |
         phases          | 2 Starting",
    );
}

#[test]
fn boot_timeout_runs_to_the_last_listener_and_is_charged() {
    play(
        1,
        "tick
         later 100
         spawned 1
         online 1
         listening 1 0
         wait 9          |
         wait 1          | kill 1; spawn 2@0
         wait 99         |
         listening 1 1   |
         crash 1         | Disconnect 1; Exit 1 BootTimeout; Close 1",
    );
}

#[test]
fn word_that_comes_together_with_the_deadline_is_in_time() {
    play(
        1,
        "tick
         spawned 1
         listening 1 0
         later 10
         listening 1 1   | Listening 1",
    );
}

#[test]
fn exit_that_comes_together_with_the_deadline_leaves_nobody_to_kill() {
    play(
        1,
        "tick
         spawned 1
         later 30
         exit 1          | Disconnect 1; Exit 1 Crash; Close 1; spawn 2@0
         phases          | 2 Starting",
    );
}

#[test]
fn spawn_failure_is_charged() {
    play(
        1,
        "tick
         no-spawn 1      | Error 1 broken; Exit 1 Spawn; Close 1; spawn 2@0
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; spawn 3@0
         no-spawn 3      | Error 3 broken; Exit 3 Spawn; Close 3; Giveup 2 0; finish GaveUp
         tick            |
         stop            |
         deadline        | none",
    );
}

#[test]
fn worker_that_announces_its_failure_is_charged_when_it_exits() {
    play(
        1,
        "tick
         spawned 1
         failed 1        | Error 1 broken
         listening 1 0   |
         listening 1 1   |
         exit 1          | Disconnect 1; Exit 1 Crash; Close 1; spawn 2@0",
    );
}

// Crashes.

#[test]
fn crash_is_replaced_at_once_whatever_the_status_and_phase() {
    play(
        3,
        "tick
         spawned 1
         spawned 2
         online 2
         up 3
         exit 1          | Disconnect 1; Exit 1 Crash; Close 1; spawn 4@0
         exit 2          | Disconnect 2; Exit 2 Crash; Close 2; spawn 5@1
         crash 3         | Disconnect 3; Exit 3 Crash; Close 3; Giveup 2 2
         phases          | 4 Starting; 5 Starting",
    );
}

#[test]
fn worker_that_closes_its_channel_is_replaced_and_gets_the_kill_timeout_to_exit() {
    play(
        1,
        "tick
         up 1
         disconnect 1    | Disconnect 1; spawn 2@0
         disconnect 1    |
         wait 4          |
         wait 1          | Error 1 its channel closed, but it did not exit within 5s; kill 1
         crash 1         | Exit 1 KillTimeout forced; Close 1",
    );
    play(
        1,
        "tick
         up 1
         disconnect 1    | Disconnect 1; spawn 2@0
         crash 1         | Exit 1 Crash; Close 1",
    );
}

#[test]
fn kill_that_fails_is_reported_and_repeated() {
    play(
        1,
        "tick
         spawned 1
         wait 10         | kill 1; spawn 2@0
         no-kill 1       | Error 1 broken
         no-kill 1       |
         wait 4          |
         wait 1          | kill 1
         wait 99         |
         crash 1         | Disconnect 1; Exit 1 BootTimeout; Close 1",
    );
}

// Suicides.

#[test]
fn suicide_is_answered_by_drain_once_the_replacement_listens() {
    play(
        1,
        "tick
         up 1
         suicide 1       | Suicide 1; spawn 2@0
         suicide 1       |
         phases          | 1 Retiring; 2 Starting
         up 2            | Fork 2; Online 2; Listening 2; drain 1
         phases          | 1 Draining; 2 Listening
         deadline        | 5
         exit 1          | Disconnect 1; Exit 1 Suicide; Close 1
         phases          | 2 Listening",
    );
}

#[test]
fn drainer_that_outlasts_the_kill_timeout_is_killed_and_counted() {
    let mut stage = Stage { lifecycle: Lifecycle::new(1, limits()), now: Instant::now(), actions: vec![] };
    for line in ["tick", "up 1", "suicide 1", "wait 8", "up 2"] {
        stage.play_line(line);
    }
    assert_eq!(stage.play_line("wait 4"), "");
    assert_eq!(stage.play_line("wait 1"), "kill 1");
    assert_eq!(stage.play_line("crash 1"), "Disconnect 1; Exit 1 KillTimeout forced; Close 1");
    assert_eq!(stage.lifecycle.forced_kills, 1);
}

#[test]
fn suicide_is_charged_once_however_the_worker_then_exits() {
    play(
        1,
        "tick
         up 1
         suicide 1       | Suicide 1; spawn 2@0
         crash 1         | Disconnect 1; Exit 1 Suicide; Close 1
         up 2            | Fork 2; Online 2; Listening 2
         suicide 2       | Suicide 2; spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 2
         crash 2         | Disconnect 2; Exit 2 Suicide; Close 2
         phases          | 3 Listening
         suicide 3       | Suicide 3; Giveup 2 1; stay 3",
    );
}

#[test]
fn suicide_one_too_many_is_answered_by_stay() {
    play(
        2,
        "tick
         up 1
         up 2
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 3@1
         up 3
         crash 3         | Disconnect 3; Exit 3 Crash; Close 3; spawn 4@1
         up 4
         suicide 1       | Suicide 1; Giveup 2 2; stay 1
         phases          | 1 Listening; 4 Listening
         suicide 1       | Suicide 1; stay 1
         suicide 4       | Suicide 4; stay 4
         roll            | Reload Started; spawn 5@0
         phases          | 1 Retiring; 4 Listening; 5 Starting",
    );
}

#[test]
fn worker_that_stayed_is_not_charged_again_when_it_asks_in_normal_times() {
    play(
        1,
        "tick
         up 1
         suicide 1
         up 2
         suicide 2
         up 3
         suicide 3       | Suicide 3; Giveup 2 1; stay 3
         exit 1
         exit 2
         deadline        | 60
         wait 60         |
         suicide 3       | Suicide 3; spawn 4@0
         up 4            | Fork 4; Online 4; Listening 4; drain 3
         suicide 4       | Suicide 4; spawn 5@0
         up 5
         suicide 5       | Suicide 5; spawn 6@0",
    );
}

#[test]
fn suicide_before_listening_keeps_its_boot_deadline_and_is_charged_once() {
    play(
        1,
        "tick
         spawned 1
         wait 2
         suicide 1       | Suicide 1; spawn 2@0
         phases          | 1 Retiring; 2 Starting
         wait 8          | kill 1
         crash 1         | Disconnect 1; Exit 1 BootTimeout; Close 1
         up 2            | Fork 2; Online 2; Listening 2
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 3@0",
    );
}

#[test]
fn suicide_before_listening_that_is_one_too_many_goes_on_starting() {
    play(
        1,
        "tick
         spawned 1
         suicide 1
         spawned 2
         suicide 2
         spawned 3
         online 3
         suicide 3       | Suicide 3; Giveup 2 3; stay 3
         phases          | 1 Retiring; 2 Retiring; 3 Online
         listening 3 0   |
         listening 3 1   | Listening 3; drain 1; drain 2",
    );
}

#[test]
fn replacement_of_a_suicide_that_dies_is_charged_and_replaced_until_the_giveup_lets_the_predecessor_stay() {
    play(
        1,
        "tick
         up 1
         suicide 1       | Suicide 1; spawn 2@0
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; spawn 3@0
         spawned 3
         wait 10         | kill 3; Giveup 2 1; stay 1
         phases          | 1 Listening; 3 Draining",
    );
}

#[test]
fn replacement_already_started_at_a_giveup_goes_on() {
    play(
        2,
        "tick
         up 1
         up 2
         suicide 1       | Suicide 1; spawn 3@0
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 4@1
         no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4; Giveup 2 2
         phases          | 1 Retiring; 3 Starting
         up 3            | Fork 3; Online 3; Listening 3; drain 1",
    );
}

// Giveups.

/// A pool of two that has given up with worker 2 alive in slot 1.
const GIVEN_UP: &str = "tick
    up 1
    up 2
    crash 1
    crash 3
    spawned 3
    crash 3
    spawned 4
    crash 4             | Disconnect 4; Exit 4 Crash; Close 4; Giveup 2 1
    ";

#[test]
fn giveup_is_said_once_and_nobody_is_respawned() {
    play(
        2,
        &[
            GIVEN_UP,
            "grow            |
             wait 59         |
             crash 2         | Disconnect 2; Exit 2 Crash; Close 2; finish GaveUp",
        ]
        .concat(),
    );
}

#[test]
fn giveup_does_not_finish_while_somebody_still_drains() {
    play(
        1,
        "tick
         up 1
         suicide 1
         up 2
         crash 2
         spawned 3
         crash 3         | Disconnect 3; Exit 3 Crash; Close 3; Giveup 2 0
         exit 1          | Disconnect 1; Exit 1 Suicide; Close 1; finish GaveUp",
    );
}

#[test]
fn trial_that_listens_for_a_window_refills_the_pool() {
    play(
        2,
        &[
            GIVEN_UP,
            "grow            |
             deadline        | 60
             wait 60         | spawn 5@0
             deadline        | none
             later 3
             up 5            | Fork 5; Online 5; Listening 5
             wait 59         |
             wait 1          | spawn 6@2
             no-spawn 6      | Error 6 broken; Exit 6 Spawn; Close 6; spawn 7@2",
        ]
        .concat(),
    );
}

#[test]
fn trial_that_dies_costs_another_window_and_is_not_announced_again() {
    play(
        2,
        &[
            GIVEN_UP,
            "wait 60         | spawn 5@0
             spawned 5
             wait 10         | kill 5
             crash 5         | Disconnect 5; Exit 5 BootTimeout; Close 5
             deadline        | 60
             wait 60         | spawn 6@0
             up 6
             suicide 6       | Suicide 6; stay 6
             deadline        | 60
             phases          | 2 Listening; 6 Listening
             wait 60         |
             crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 7@1",
        ]
        .concat(),
    );
}

#[test]
fn trial_taken_away_by_scaling_is_repeated_elsewhere_or_not_needed() {
    play(
        3,
        "tick
         up 1
         up 2
         up 3
         crash 2
         crash 3
         spawned 4
         crash 4         | Disconnect 4; Exit 4 Crash; Close 4; Giveup 2 2
         phases          | 1 Listening; 5 Starting
         spawned 5
         crash 5         | Disconnect 5; Exit 5 Crash; Close 5
         wait 60         | spawn 6@1
         up 6
         shrink          |
         shrink          | drain 6
         exit 6          | Disconnect 6; Exit 6 Scale; Close 6
         grow            | spawn 7@1",
    );
}

#[test]
fn window_that_passed_without_a_tick_has_passed() {
    play(
        1,
        "tick
         up 1
         suicide 1
         up 2
         suicide 2
         up 3
         suicide 3       | Suicide 3; Giveup 2 1; stay 3
         exit 1
         exit 2
         later 60
         crash 3         | Disconnect 3; Exit 3 Crash; Close 3; spawn 4@0",
    );
}

#[test]
fn roll_clears_a_giveup_and_fills_the_pool_as_part_of_itself() {
    play(
        2,
        &[
            GIVEN_UP,
            "roll            | Reload Started; spawn 5@0
             up 5            | Fork 5; Online 5; Listening 5; spawn 6@1
             up 6            | Fork 6; Online 6; Listening 6; drain 2; adopt; Reload Done
             deadline        | 5",
        ]
        .concat(),
    );
}

// Rolls.

#[test]
fn roll_replaces_one_after_the_other_without_waiting_for_exits() {
    play(
        2,
        "tick
         up 1
         up 2
         roll            | Reload Started; spawn 3@0
         phases          | 1 Retiring; 2 Listening; 3 Starting
         up 3            | Fork 3; Online 3; Listening 3; drain 1; spawn 4@1
         up 4            | Fork 4; Online 4; Listening 4; drain 2; adopt; Reload Done
         exit 1          | Disconnect 1; Exit 1 Reload; Close 1
         exit 2          | Disconnect 2; Exit 2 Reload; Close 2
         phases          | 3 Listening; 4 Listening",
    );
}

#[test]
fn rolls_asked_for_during_a_roll_are_one_more() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         roll            |
         roll            |
         up 2            | Fork 2; Online 2; Listening 2; drain 1; adopt; Reload Done; read
         same            | Reload Started; spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 2; adopt; Reload Done",
    );
}

#[test]
fn replacement_that_dies_fails_the_roll_and_costs_nothing() {
    for death in ["crash 2", "disconnect 2", "failed 2\n crash 2", "wait 10", "refused 2\n exit 2"] {
        play(
            1,
            &format!(
                "tick
                 up 1
                 roll
                 spawned 2
                 {death}
                 suicide 1       | Suicide 1; spawn 3@0
                 no-spawn 3
                 no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4; Giveup 2 1; stay 1"
            ),
        );
    }
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; revert; Reload Failed 0
         phases          | 1 Listening",
    );
}

#[test]
fn roll_that_fails_is_followed_by_the_remembered_one() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         roll            |
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; revert; Reload Failed 0; read
         same            | Reload Started; spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 1; adopt; Reload Done",
    );
}

#[test]
fn predecessor_that_crashes_while_rolled_costs_nothing_and_the_replacement_goes_on() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         crash 1         | Disconnect 1; Exit 1 Crash; Close 1
         up 2            | Fork 2; Online 2; Listening 2; adopt; Reload Done
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 3@0
         no-spawn 3      | Error 3 broken; Exit 3 Spawn; Close 3; spawn 4@0",
    );
}

#[test]
fn replacement_that_dies_after_its_predecessor_leaves_no_empty_slot() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         crash 1         | Disconnect 1; Exit 1 Crash; Close 1
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; revert; Reload Failed 0; spawn 3@0",
    );
}

#[test]
fn predecessor_that_asks_while_rolled_is_answered_by_the_coming_drain() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         suicide 1       | Suicide 1
         up 2            | Fork 2; Online 2; Listening 2; drain 1; adopt; Reload Done",
    );
}

#[test]
fn predecessor_that_asked_while_its_roll_failed_is_replaced_as_a_suicide() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         suicide 1       | Suicide 1
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; revert; Reload Failed 0; spawn 3@0
         no-spawn 3      | Error 3 broken; Exit 3 Spawn; Close 3; spawn 4@0
         no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4; Giveup 2 1; stay 1",
    );
}

#[test]
fn replacement_that_asks_before_it_listens_fails_the_roll_and_is_drained() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         spawned 2
         suicide 2       | Suicide 2; revert; Reload Failed 0; drain 2
         exit 2          | Disconnect 2; Exit 2 Suicide; Close 2
         phases          | 1 Listening",
    );
}

#[test]
fn roll_waits_for_workers_that_are_still_starting_and_spares_those_started_since() {
    play(
        2,
        "tick
         up 1
         spawned 2
         roll            | Reload Started; spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 1
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 4@1
         up 4            | Fork 4; Online 4; Listening 4; adopt; Reload Done",
    );
}

#[test]
fn giveup_during_a_roll_ends_it_at_the_next_worker() {
    play(
        2,
        "tick
         up 1
         up 2
         suicide 2
         no-spawn 3
         roll            | Reload Started; spawn 5@0
         no-spawn 4
         no-spawn 6
         no-spawn 7      | Error 7 broken; Exit 7 Spawn; Close 7; Giveup 2 3; stay 2
         phases          | 1 Retiring; 2 Listening; 5 Starting
         up 5            | Fork 5; Online 5; Listening 5; drain 1; revert; Reload Failed 1",
    );
}

#[test]
fn roll_survives_scaling() {
    play(
        2,
        "tick
         up 1
         up 2
         roll            | Reload Started; spawn 3@0
         grow            | spawn 4@2
         up 3            | Fork 3; Online 3; Listening 3; drain 1; spawn 5@1
         shrink          |
         shrink          | drain 2; adopt; Reload Done
         phases          | 1 Draining; 2 Draining; 3 Listening; 4 Draining; 5 Draining
         grow            | spawn 6@1",
    );
}

// Disconnects.

#[test]
fn disconnect_replaces_first_then_drains_and_costs_nothing() {
    play(
        2,
        "tick
         up 1
         up 2
         part 1          | spawn 3@0
         part 1          |
         phases          | 1 Retiring; 2 Listening; 3 Starting
         up 3            | Fork 3; Online 3; Listening 3; drain 1
         part 1          |
         deadline        | 5
         exit 1          | Disconnect 1; Exit 1 Disconnect; Close 1
         part 1          |
         part 9          |
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 4@1
         crash 3         | Disconnect 3; Exit 3 Crash; Close 3; spawn 5@0",
    );
}

#[test]
fn two_disconnects_at_once_do_not_wait_for_each_other() {
    play(
        2,
        "tick
         up 1
         up 2
         part 2          | spawn 3@1
         part 1          | spawn 4@0
         up 4            | Fork 4; Online 4; Listening 4; drain 1
         up 3            | Fork 3; Online 3; Listening 3; drain 2
         phases          | 1 Draining; 2 Draining; 3 Listening; 4 Listening",
    );
}

#[test]
fn disconnect_of_a_worker_that_still_starts_waits_until_it_listens() {
    play(
        1,
        "tick
         part 1          |
         spawned 1       | Fork 1
         part 1          |
         listening 1 0   |
         listening 1 1   | Listening 1; spawn 2@0
         part 2          |
         up 2            | Fork 2; Online 2; Listening 2; drain 1; spawn 3@0",
    );
}

#[test]
fn disconnect_whose_replacement_dies_leaves_the_worker_and_costs_nothing() {
    for death in ["crash 2", "disconnect 2", "failed 2\n crash 2", "wait 10", "refused 2\n exit 2"] {
        play(
            1,
            &format!(
                "tick
                 up 1
                 part 1
                 spawned 2
                 {death}
                 suicide 1       | Suicide 1; spawn 3@0
                 no-spawn 3
                 no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4; Giveup 2 1; stay 1"
            ),
        );
    }
    play(
        1,
        "tick
         up 1
         part 1          | spawn 2@0
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; Error 1 cannot be replaced: its replacement did not come up: broken
         phases          | 1 Listening
         tick            |
         part 1          | spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 1",
    );
}

#[test]
fn replacement_that_asks_before_it_listens_fails_the_disconnect_and_is_drained() {
    play(
        1,
        "tick
         up 1
         part 1
         spawned 2
         suicide 2       | Suicide 2; Error 1 cannot be replaced: its replacement did not come up; drain 2
         exit 2          | Disconnect 2; Exit 2 Suicide; Close 2
         phases          | 1 Listening",
    );
}

#[test]
fn worker_that_crashes_while_it_is_disconnected_costs_nothing_and_leaves_no_empty_slot() {
    play(
        1,
        "tick
         up 1
         part 1          | spawn 2@0
         crash 1         | Disconnect 1; Exit 1 Crash; Close 1
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; spawn 3@0",
    );
}

#[test]
fn worker_that_asks_while_it_is_disconnected_goes_as_a_suicide() {
    play(
        1,
        "tick
         up 1
         part 1          | spawn 2@0
         suicide 1       | Suicide 1
         up 2            | Fork 2; Online 2; Listening 2; drain 1
         exit 1          | Disconnect 1; Exit 1 Suicide; Close 1
         part 2          | spawn 3@0
         suicide 2       | Suicide 2
         no-spawn 3      | Error 3 broken; Exit 3 Spawn; Close 3; Error 2 cannot be replaced: its replacement did not come up: broken; spawn 4@0
         no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4; spawn 5@0
         no-spawn 5      | Error 5 broken; Exit 5 Spawn; Close 5; Giveup 2 1; stay 2",
    );
}

#[test]
fn disconnect_of_one_that_retires_or_drains_already_changes_nothing_unless_it_stays() {
    play(
        1,
        "tick
         up 1
         suicide 1       | Suicide 1; spawn 2@0
         part 1          |
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; spawn 3@0
         no-spawn 3      | Error 3 broken; Exit 3 Spawn; Close 3; Giveup 2 1; stay 1; \
                           Error 1 cannot be replaced: restarts are throttled, so nobody can take its place
         phases          | 1 Listening",
    );
    play(
        1,
        "tick
         up 1
         suicide 1
         up 2            | Fork 2; Online 2; Listening 2; drain 1
         part 1          |
         exit 1          | Disconnect 1; Exit 1 Suicide; Close 1",
    );
}

#[test]
fn nobody_is_disconnected_while_restarts_are_throttled() {
    play(
        2,
        &[
            GIVEN_UP,
            "part 2          | Error 2 cannot be replaced: restarts are throttled, so nobody can take its place
             phases          | 2 Listening
             wait 60         | spawn 5@0
             up 5            | Fork 5; Online 5; Listening 5
             part 5          | Error 5 cannot be replaced: restarts are throttled, so nobody can take its place
             wait 60         |
             part 5          | spawn 6@0",
        ]
        .concat(),
    );
}

#[test]
fn replacement_already_started_at_a_giveup_finishes_the_disconnect() {
    play(
        2,
        "tick
         up 1
         up 2
         part 1          | spawn 3@0
         crash 2
         no-spawn 4
         no-spawn 5      | Error 5 broken; Exit 5 Spawn; Close 5; Giveup 2 2
         up 3            | Fork 3; Online 3; Listening 3; drain 1",
    );
}

#[test]
fn disconnect_and_roll_do_not_replace_the_same_worker_twice() {
    play(
        2,
        "tick
         up 1
         up 2
         roll            | Reload Started; spawn 3@0
         part 1          |
         part 2          | spawn 4@1
         up 4            | Fork 4; Online 4; Listening 4; drain 2
         up 3            | Fork 3; Online 3; Listening 3; drain 1; adopt; Reload Done
         exit 1          | Disconnect 1; Exit 1 Disconnect; Close 1",
    );
}

#[test]
fn disconnect_of_a_worker_whose_roll_fails_is_tried_for_itself() {
    play(
        1,
        "tick
         up 1
         roll            | Reload Started; spawn 2@0
         part 1          |
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; revert; Reload Failed 0; spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 1
         exit 1          | Disconnect 1; Exit 1 Disconnect; Close 1",
    );
}

#[test]
fn roll_waits_for_a_disconnect_and_survives_its_failure() {
    play(
        1,
        "tick
         up 1
         part 1          | spawn 2@0
         roll            | Reload Started
         no-spawn 2      | Error 2 broken; Exit 2 Spawn; Close 2; Error 1 cannot be replaced: its replacement did not come up: broken; spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 1; adopt; Reload Done",
    );
    play(
        1,
        "tick
         up 1
         part 1          | spawn 2@0
         roll            | Reload Started
         up 2            | Fork 2; Online 2; Listening 2; drain 1; spawn 3@0
         up 3            | Fork 3; Online 3; Listening 3; drain 2; adopt; Reload Done
         exit 1          | Disconnect 1; Exit 1 Disconnect; Close 1
         exit 2          | Disconnect 2; Exit 2 Reload; Close 2",
    );
}

#[test]
fn shrinking_and_stopping_end_a_disconnect() {
    play(
        2,
        "tick
         up 1
         up 2
         part 2          | spawn 3@1
         shrink          | drain 2
         spawned 3       | Fork 3; drain 3
         part 1          | spawn 4@0
         stop            | close listeners; drain 1 to stop
         part 1          |
         spawned 4       | Fork 4; drain 4 to stop",
    );
}

// Scaling.

#[test]
fn shrinking_drains_the_surplus_also_while_it_starts_but_never_the_last() {
    play(
        3,
        "tick
         up 1
         up 2
         spawned 3
         shrink          | drain 3
         shrink          | drain 2
         shrink          |
         exit 3          | Disconnect 3; Exit 3 Scale; Close 3
         wait 5          | kill 2
         crash 2         | Disconnect 2; Exit 2 KillTimeout forced; Close 2
         grow            | spawn 4@1",
    );
}

#[test]
fn surplus_worker_without_a_process_is_drained_when_it_has_one() {
    play(
        2,
        "tick
         shrink          |
         phases          | 1 Starting; 2 Draining
         wait 99         |
         spawned 2       | Fork 2; drain 2
         deadline        | 5",
    );
}

#[test]
fn shrinking_answers_a_suicide_by_its_drain() {
    play(
        2,
        "tick
         up 1
         up 2
         suicide 2       | Suicide 2; spawn 3@1
         shrink          | drain 2
         suicide 2       |
         spawned 3       | Fork 3; drain 3",
    );
}

#[test]
fn pool_never_grows_beyond_the_maximum() {
    let mut lifecycle = Lifecycle::new(WORKERS_MAX + 5, limits());
    let mut actions = Vec::new();
    lifecycle.step(Input::Command(Command::Grow), Instant::now(), &mut actions);
    assert_eq!((lifecycle.wanted(), actions.len()), (WORKERS_MAX, WORKERS_MAX));
}

// Refusals.

#[test]
fn refusal_before_anybody_listened_ends_the_program_without_respawn() {
    play(
        3,
        "tick
         spawned 1
         spawned 2
         refused 1       | kill 1; kill 2
         refused 2
         exit 1          | Disconnect 1; Exit 1 Ring; Close 1
         spawned 3       | Fork 3; kill 3
         crash 3         | Disconnect 3; Exit 3 Stop; Close 3
         crash 2         | Disconnect 2; Exit 2 Stop; Close 2; finish Refused",
    );
}

#[test]
fn refusal_after_somebody_listened_is_that_workers_own_unplanned_end() {
    play(
        2,
        "tick
         up 1
         spawned 2
         refused 2
         exit 2          | Disconnect 2; Exit 2 Ring; Close 2; spawn 3@1
         spawned 3
         refused 3
         wait 10         | kill 3; spawn 4@1
         crash 3         | Disconnect 3; Exit 3 Ring; Close 3
         no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4; Giveup 2 1",
    );
}

// Stops.

#[test]
fn stop_closes_the_listeners_and_drains_everybody() {
    play(
        3,
        "tick
         up 1
         spawned 2
         suicide 1       | Suicide 1; spawn 4@0
         stop            | close listeners; drain 1 to stop; drain 2 to stop
         stop            |
         roll            |
         grow            |
         suicide 2       | Suicide 2
         spawned 3       | Fork 3; drain 3 to stop
         no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4
         exit 1          | Disconnect 1; Exit 1 Stop; Close 1
         crash 3         | Disconnect 3; Exit 3 Stop; Close 3
         wait 5          | kill 2
         crash 2         | Disconnect 2; Exit 2 KillTimeout forced; Close 2; finish Stopped
         tick            |",
    );
}

#[test]
fn stop_without_workers_finishes_at_once() {
    play(1, "stop            | close listeners; finish Stopped");
    play(1, "stop-now        | close listeners; finish Stopped");
}

#[test]
fn stop_abandons_a_roll() {
    play(
        1,
        "tick
         up 1
         roll
         roll
         stop            | close listeners; drain 1 to stop
         spawned 2       | Fork 2; drain 2 to stop
         exit 1
         exit 2          | Disconnect 2; Exit 2 Stop; Close 2; finish Stopped",
    );
}

#[test]
fn stop_now_kills_everybody_also_those_who_drain_and_those_who_come_late() {
    play(
        2,
        "tick
         up 1
         stop            | close listeners; drain 1 to stop
         stop-now        | kill 1
         stop-now        |
         crash 1         | Disconnect 1; Exit 1 Stop; Close 1
         spawned 2       | Fork 2; kill 2
         crash 2         | Disconnect 2; Exit 2 Stop; Close 2; finish Stopped",
    );
    play(
        1,
        "tick
         up 1
         stop-now        | close listeners; kill 1
         exit 1          | Disconnect 1; Exit 1 Stop; Close 1; finish Stopped",
    );
}

#[test]
fn thousands_of_restarts_leave_nothing_behind() {
    let mut stage = Stage { lifecycle: Lifecycle::new(1, limits()), now: Instant::now(), actions: vec![] };
    stage.play_line("tick");
    for id in 1..5000 {
        stage.play_line(&format!("up {id}"));
        stage.play_line("later 60");
        stage.play_line(&format!("crash {id}"));
    }
    assert_eq!(stage.phases(), "5000 Starting");
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    play(
        1,
        "tick
         up 1
         hup             | read
         hup             |
         bad             | Reload Failed broken; read
         same            | Reload Started; spawn 2@0
         up 2            | Fork 2; Online 2; Listening 2; drain 1; adopt; Reload Done
         same            |",
    );
}

#[test]
fn a_giveup_is_cleared_by_what_is_in_force_and_not_by_a_bad_file() {
    play(
        1,
        "tick
         up 1
         crash 1
         up 2
         crash 2
         up 3
         suicide 3       | Suicide 3; Giveup 2 1; stay 3
         hup             | read
         bad             | Reload Failed broken
         suicide 3       | Suicide 3; stay 3
         hup             | read
         same            | Reload Started; spawn 4@0",
    );
}

#[test]
fn new_settings_come_with_the_workers_and_their_number_at_the_end() {
    play(
        2,
        "tick
         up 1
         up 2
         hup             | read
         new 3           | Reload Started; spawn 3@0
         spawned 3       | Fork 3
         online 3        | Online 3
         listening 3 0   | Listening 3; drain 1; spawn 4@1
         spawned 4
         online 4
         listening 4 0   | Listening 4; drain 2; adopt; Reload Done; spawn 5@2
         spawned 5
         listening 5 0   | Listening 5",
    );
    play(
        2,
        "tick
         up 1
         up 2
         hup
         new 1
         spawned 3
         listening 3 0   | Listening 3; drain 1; adopt; Reload Done; drain 2",
    );
}

#[test]
fn settings_that_do_not_come_up_everywhere_go_nowhere() {
    play(
        2,
        "tick
         up 1
         up 2
         hup
         new
         spawned 3
         listening 3 0   | Listening 3; drain 1; spawn 4@1
         spawned 4       | Fork 4
         failed 4        | Error 4 broken
         exit 4          | Disconnect 4; Exit 4 Crash; Close 4; revert; Reload Reverting 1; spawn 5@0
         phases          | 1 Draining; 2 Listening; 3 Retiring; 5 Starting
         up 5            | Fork 5; Online 5; Listening 5; drain 3; forget; Reload Failed 1
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 6@1
         up 6            | Fork 6; Online 6; Listening 6",
    );
}

#[test]
fn those_that_start_with_settings_given_up_come_up_and_are_replaced() {
    play(
        3,
        "tick
         up 1
         up 2
         up 3
         hup
         new
         crash 2         | Disconnect 2; Exit 2 Crash; Close 2; spawn 5@1
         spawned 5       | Fork 5
         spawned 4
         crash 4         | Disconnect 4; Exit 4 Crash; Close 4; revert; Reload Reverting 0
         listening 5 0   | Listening 5; spawn 6@1
         up 6            | Fork 6; Online 6; Listening 6; drain 5; forget; Reload Failed 0
         phases          | 1 Listening; 3 Listening; 5 Draining; 6 Listening",
    );
}

#[test]
fn a_way_back_that_fails_as_well_says_so_and_leaves_who_serves() {
    play(
        2,
        "tick
         up 1
         up 2
         hup
         new
         spawned 3
         listening 3 0
         no-spawn 4      | Error 4 broken; Exit 4 Spawn; Close 4; revert; Reload Reverting 1; spawn 5@0
         no-spawn 5      | Error 5 broken; Exit 5 Spawn; Close 5; forget; Reload Failed 1
         phases          | 1 Draining; 2 Listening; 3 Listening",
    );
}

#[test]
fn a_worker_drains_by_the_limits_it_was_started_with() {
    let mut stage =
        Stage { lifecycle: Lifecycle::new(1, limits()), now: Instant::now(), actions: Vec::new() };
    stage.play_line("tick");
    stage.play_line("up 1");
    stage.play_line("hup");
    let shorter = Limits { kill_timeout: Duration::from_secs(1), ..limits() };
    stage.feed(Input::Configured(Ok(Settings { limits: shorter, wanted: None, changed: true })));
    assert!(stage.play_line("up 2").contains("drain 1"));
    assert_eq!(stage.play_line("deadline"), "5");
}

// Stalls.

#[test]
fn stalled_worker_is_charged_replaced_and_killed() {
    play(
        2,
        "tick
         up 1
         up 2
         stalled 1        | spawn 3@0; kill 1
         still-stalled 1  |
         phases           | 1 Draining; 2 Listening; 3 Starting
         crash 1          | Disconnect 1; Exit 1 Stall; Close 1
         up 3             | Fork 3; Online 3; Listening 3
         stalled 3        | spawn 4@0; kill 3
         crash 2          | Disconnect 2; Exit 2 Crash; Close 2; Giveup 2 1",
    );
}

#[test]
fn stalled_worker_is_left_and_told_of_once_while_nobody_can_take_its_place() {
    play(
        2,
        "tick
         up 1
         up 2
         crash 2          | Disconnect 2; Exit 2 Crash; Close 2; spawn 3@1
         crash 3
         spawned 3
         crash 3          | Disconnect 3; Exit 3 Crash; Close 3; spawn 4@1
         up 4
         stalled 1        | Giveup 2 2; Error 1 left
         still-stalled 1  |
         phases           | 1 Listening; 4 Listening
         stalled 4        | Error 4 left
         wait 59          |
         still-stalled 1  |
         wait 1           |
         still-stalled 1  | spawn 5@0; kill 1
         phases           | 1 Draining; 4 Listening; 5 Starting",
    );
}

#[test]
fn worker_that_starts_drains_or_has_announced_its_end_is_none_of_the_watchdogs_affair() {
    play(
        1,
        "tick
         stalled 1        |
         spawned 1
         online 1
         stalled 1        |
         listening 1 0
         listening 1 1
         suicide 1        | Suicide 1; spawn 2@0
         up 2             | Fork 2; Online 2; Listening 2; drain 1
         stalled 1        |
         stalled 9        |
         failed 2         | Error 2 broken
         stalled 2        |
         wait 5           | kill 1
         stalled 1        |
         stop             | close listeners; drain 2 to stop
         stalled 2        |",
    );
}

#[test]
fn stalled_worker_that_is_being_replaced_costs_nothing_more() {
    play(
        2,
        "tick
         up 1
         up 2
         roll             | Reload Started; spawn 3@0
         stalled 1        | kill 1
         crash 1          | Disconnect 1; Exit 1 Stall; Close 1
         up 3             | Fork 3; Online 3; Listening 3; spawn 4@1
         crash 3          | Disconnect 3; Exit 3 Crash; Close 3; spawn 5@0
         up 5
         crash 5          | Disconnect 5; Exit 5 Crash; Close 5; spawn 6@0",
    );
}

#[test]
fn kill_of_a_stalled_worker_that_fails_is_repeated() {
    play(
        1,
        "tick
         up 1
         stalled 1        | spawn 2@0; kill 1
         no-kill 1        | Error 1 broken
         stalled 1        |
         wait 5           | kill 1
         crash 1          | Disconnect 1; Exit 1 Stall; Close 1",
    );
}

// Time that was lost.

#[test]
fn time_in_which_nobody_was_seen_is_nobodys_fault() {
    play(
        3,
        "tick
         spawned 1
         up 2
         up 3
         suicide 2        | Suicide 2; spawn 4@1
         up 4             | Fork 4; Online 4; Listening 4; drain 2
         disconnect 3     | Disconnect 3; spawn 5@2
         wait 4           |
         deadline         | 1
         held-up 1000     |
         deadline         | 1
         wait 1           | kill 2; Error 3 its channel closed, but it did not exit within 5s; kill 3
         no-kill 2        | Error 2 broken
         wait 4           |
         held-up 1000     |
         deadline         | 1
         wait 1           | kill 1; kill 2; spawn 6@0",
    );
}

#[test]
fn window_that_passes_unseen_has_passed() {
    play(
        1,
        "tick
         up 1
         crash 1
         up 2
         crash 2
         up 3
         held-up 60       |
         crash 3          | Disconnect 3; Exit 3 Crash; Close 3; spawn 4@0",
    );
}

// Recycling.

#[test]
fn recycled_worker_is_replaced_by_plan_and_the_next_one_when_it_is_gone() {
    play(
        2,
        "tick
         up 1
         recycle 1        |
         up 2
         recycle 1        | spawn 3@0
         recycle 2        |
         phases           | 1 Retiring; 2 Listening; 3 Starting
         up 3             | Fork 3; Online 3; Listening 3; drain 1
         recycle 2        |
         exit 1           | Disconnect 1; Exit 1 Recycle; Close 1
         recycle 1        |
         recycle 2        | spawn 4@1
         up 4
         exit 2           | Disconnect 2; Exit 2 Recycle; Close 2
         crash 3          | Disconnect 3; Exit 3 Crash; Close 3; spawn 5@0
         up 5
         crash 5          | Disconnect 5; Exit 5 Crash; Close 5; spawn 6@0",
    );
}

#[test]
fn nobody_is_recycled_while_something_else_goes_on() {
    play(
        2,
        "tick
         up 1
         up 2
         roll             | Reload Started; spawn 3@0
         recycle 2        |
         up 3
         up 4             | Fork 4; Online 4; Listening 4; drain 2; adopt; Reload Done
         recycle 3        |
         exit 1
         exit 2
         part 3           | spawn 5@0
         recycle 4        |
         up 5
         exit 3
         crash 4          | Disconnect 4; Exit 4 Crash; Close 4; spawn 6@1
         recycle 5        |
         up 6
         crash 6
         up 7
         crash 7          | Disconnect 7; Exit 7 Crash; Close 7; Giveup 2 1
         recycle 5        |
         stop             | close listeners; drain 5 to stop
         recycle 5        |",
    );
}

#[test]
fn replacement_of_a_recycled_worker_that_dies_costs_nothing_and_is_not_repeated_at_once() {
    play(
        1,
        "tick
         up 1
         recycle 1        | spawn 2@0
         spawned 2
         exit 2           | Disconnect 2; Exit 2 Crash; Close 2; Error 1 cannot be recycled (tried again when a restart window has passed): its replacement did not come up: it ended with code 0
         phases           | 1 Listening
         recycle 1        |
         wait 59          |
         recycle 1        |
         later 1
         recycle 1        | spawn 3@0
         suicide 1        | Suicide 1
         up 3             | Fork 3; Online 3; Listening 3; drain 1
         exit 1           | Disconnect 1; Exit 1 Suicide; Close 1",
    );
}
