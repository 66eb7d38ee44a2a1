//! Messages and sockets between the program in the master and the program in its workers, and what the master does to
//! workers for it. Through the real example and real sockets.

mod common;

use common::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::SystemTime;

const WORKERS: &[&str] = &["--workers", "2", "--pin", "off"];

fn start(arguments: &[&str]) -> Server {
    Server::start(Program::Messages, &[WORKERS, arguments].concat())
}

/// A connection to each worker, by process ID.
fn one_to_each(server: &Server) -> Vec<(i32, Client)> {
    let mut clients: Vec<(i32, Client)> = vec![];
    server.wait("every worker has accepted one", || server.listening().len() == 2);
    let deadline = std::time::Instant::now() + PATIENCE;
    while clients.len() < 2 {
        assert!(std::time::Instant::now() < deadline, "one worker accepts nothing");
        let mut client = server.connect();
        let pid = client.get("/sockets").pid();
        if clients.iter().all(|(other, _)| *other != pid) {
            clients.push((pid, client));
        }
    }
    clients
}

/// What an answer says before the process ID.
fn said(answer: &Answer) -> String {
    answer.text().split(", pid is").next().unwrap().to_owned()
}

fn sockets(client: &mut Client) -> u64 {
    said(&client.get("/sockets"))["sockets ".len()..].parse().unwrap()
}

/// Asks until the answer is this; it must become so, but not at once.
fn wait_until_it_says(server: &Server, client: &mut Client, path: &str, expected: &str) {
    server.wait(expected, || said(&client.get(path)) == expected);
}

fn id_of(server: &Server, pid: i32) -> u64 {
    let listening =
        server.wait_for("its listening", |line| line["event"] == "listening" && line["pid"] == pid);
    listening["id"].as_u64().unwrap()
}

fn exit_of(server: &Server, pid: i32) -> Value {
    server.wait_for("its exit", |line| line["event"] == "exit" && line["pid"] == pid)
}

/// Where the master itself accepts, once it knows of both workers.
fn door(server: &Server) -> SocketAddr {
    let line =
        server.wait_for("the door", |line| line.as_str().is_some_and(|line| line.starts_with("door ")));
    let door = line.as_str().unwrap()["door ".len()..].parse().unwrap();
    let mut pids = BTreeSet::new();
    server.wait("both are sent clients", || {
        // the first may come before anybody is known to listen, and is dropped
        pids.extend(Client::connect(door).try_get("/sockets").map(|answer| answer.pid()));
        pids.len() == 2
    });
    door
}

fn problems(server: &Server) -> Vec<String> {
    server.events("error").iter().map(|line| line["problem"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_every_worker_counts_every_worker_knows_also_those_that_came_later() {
    let server = start(&[]);
    let mut clients = one_to_each(&server);
    for (_, client) in &mut clients {
        for _ in 0..25 {
            assert_eq!(said(&client.get("/")), "counted");
        }
    }
    for (_, client) in &mut clients {
        wait_until_it_says(&server, client, "/total", "total 50");
    }
    drop(clients);
    server.signal("HUP");
    server.wait_for("the roll", |line| line["stage"] == "done");
    let old: Vec<i32> =
        server.events("listening")[..2].iter().map(|l| l["pid"].as_i64().unwrap() as i32).collect();
    old.iter().for_each(|pid| drop(exit_of(&server, *pid)));
    for (pid, mut client) in one_to_each(&server) {
        assert!(!old.contains(&pid));
        wait_until_it_says(&server, &mut client, "/total", "total 50");
    }
    assert!(problems(&server).is_empty(), "{:?}", problems(&server));
}

#[test]
fn ten_thousand_messages_each_way_arrive_in_order_and_a_big_one_whole() {
    let server = start(&[]);
    let mut clients = one_to_each(&server);
    // of both workers at once
    for (_, client) in &mut clients {
        client.send("GET /echo?n=10000&size=10 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    for (_, client) in &mut clients {
        let answer = client.read_answer().expect("all come back");
        assert_eq!(said(&answer), "10000 back in order, 100000 octets");
    }
    let (_, client) = &mut clients[0];
    assert_eq!(said(&client.get("/echo?n=1&size=1048576")), "1 back in order, 1048576 octets");
    assert_eq!(said(&client.get("/echo?n=10&size=1000000")), "10 back in order, 10000000 octets");
    // longer than a line of the channel may be: the handler gets an error, and nobody else notices
    assert_eq!(client.get("/echo?n=1&size=9000000").status, 500);
    let failed = server.wait_for("the failure", |line| line["message"] == "a handler failed");
    assert_eq!(failed["error"], "a message cannot be sent: a message is longer than 8 MiB");
    assert_eq!(said(&client.get("/echo?n=1")), "1 back in order, 0 octets");
    assert!(problems(&server).is_empty(), "{:?}", problems(&server));
}

#[test]
fn the_channels_own_words_are_refused_at_the_call() {
    let server = start(&[]);
    let answer = said(&server.get("/refused"));
    assert!(answer.starts_with("a message cannot be sent: its cmd may not begin with NODE_"), "{answer}");
}

#[test]
fn a_master_that_does_not_read_costs_its_worker_an_error_and_no_memory_without_end() {
    let server = start(&[]);
    let (pid, mut client) = one_to_each(&server).remove(0);
    server.stop(server.pid());
    // one at a time, each answered at once, until there is no room
    let taken = (0..20).take_while(|_| client.get("/tell?n=0&size=1000000").status == 200).count();
    assert!((16..20).contains(&taken), "{taken}");
    for round in 0..5 {
        assert_eq!(client.get("/echo?n=40000&size=1000").status, 500, "{round}");
    }
    let grown = rss_anon(pid);
    assert!(grown < 128 * 1024, "{grown} KiB");
    kill(server.pid(), "CONT");
    let failed = server.wait_for("the failure", |line| line["message"] == "a handler failed");
    assert_eq!(
        failed["error"],
        "a message cannot be sent: 16 MiB of messages wait already for the master to read them"
    );
    // what was taken arrives, and then there is room again
    wait_until_it_says(&server, &mut client, "/echo?n=1000", "1000 back in order, 0 octets");
}

#[test]
fn a_worker_that_does_not_read_costs_the_master_an_event_and_no_memory_without_end() {
    let server = start(&["--stall-timeout", "600s"]);
    let [(stopped, _), (_, other)] = &mut one_to_each(&server)[..] else { panic!("two workers") };
    let id = id_of(&server, *stopped);
    server.stop(*stopped);
    // one after the other: all at once would be more than the pool takes before the loop has sent it on
    let tell = |other: &mut Client| {
        for _ in 0..4 {
            let path = format!("/tell?worker={id}&n=100&size=100000");
            assert_eq!(said(&other.get(&path)), "asked to tell");
            assert_eq!(said(&other.get("/echo?n=1")), "1 back in order, 0 octets");
        }
    };
    tell(other);
    let lost = server.wait_for("what is lost", |line| line["event"] == "error");
    assert_eq!(lost["problem"], "a message to it is lost: 16 MiB wait already for it to read them");
    assert_eq!((&lost["id"], &lost["pid"]), (&id.into(), &(*stopped).into()));
    assert_eq!(said(&other.get("/echo?n=1000")), "1000 back in order, 0 octets", "the others go on");
    let grown = rss_anon(server.pid());
    assert!(grown < 128 * 1024, "{grown} KiB");
    assert_eq!(problems(&server).len(), 1, "not one for each that is lost");
    kill(*stopped, "CONT");
    let number = |end: &str| {
        let line =
            server.wait_for(end, |line| line["problem"].as_str().is_some_and(|text| text.ends_with(end)));
        let text = line["problem"].as_str().unwrap().to_owned();
        let number = text.strip_prefix("messages and sockets to it are lost (").unwrap();
        number.split(')').next().unwrap().parse::<usize>().unwrap()
    };
    // 16 MiB waited, and what a socket holds
    assert!((200..400 - 150).contains(&number("it did not read for a time")), "{:?}", problems(&server));
    assert_eq!(said(&other.get(&format!("/tell?worker={id}&n=1&size=1"))), "asked to tell");
    assert_eq!(said(&other.get("/echo?n=1")), "1 back in order, 0 octets");
    assert_eq!(problems(&server).len(), 2, "it hears again");
    server.stop(*stopped);
    tell(other);
    server.wait("something is lost again", || problems(&server).len() == 3);
    assert!(server.events("exit").is_empty());
    kill(*stopped, "KILL");
    assert!((200..400 - 150).contains(&number("it did not read, and it is gone")), "{:?}", problems(&server));
    assert_eq!(problems(&server).len(), 4);
}

#[test]
fn a_panic_over_a_message_is_what_it_is_in_a_request() {
    let server = start(&["--kill-timeout", "60s"]);
    let mut clients = one_to_each(&server);
    let (pid, id) = (clients[0].0, id_of(&server, clients[0].0));
    let (_, other) = &mut clients[1];
    assert_eq!(said(&other.get(&format!("/tell?worker={id}&text=panic"))), "asked to tell");
    let panic = server.wait_for("the panic", |line| line["message"] == "panic in the handler");
    assert_eq!(
        (&panic["panic"], &panic["request"]),
        (&"told to".into(), &"a message from the master".into())
    );
    // it goes on until its replacement listens; that may be now
    let answer = clients[0].1.try_get("/sockets");
    let heard = SystemTime::now();
    // it waits for its clients
    drop(clients);
    let exit = exit_of(&server, pid);
    assert_eq!((&exit["cause"], &exit["status"]), (&"suicide".into(), &"code 1".into()));
    let successor = left_after_its_replacement_listened(&server, &exit);
    match answer {
        Ok(answer) => assert_eq!(answer.pid(), pid),
        Err(error) => assert!(time_of(&successor) <= heard, "cut ({error}) before {successor}"),
    }
}

/// The log has somebody listen in its slot before it is let go. Gives that line.
fn left_after_its_replacement_listened(server: &Server, exit: &Value) -> Value {
    let log = server.log();
    let place = |event: &str, key: &str, of: &dyn Fn(&Value) -> bool| {
        log.iter().position(|line| line["event"] == event && line[key] == exit[key] && of(line)).unwrap()
    };
    let successor = place("listening", "slot", &|line| line["id"].as_u64() > exit["id"].as_u64());
    assert!(successor < place("disconnect", "pid", &|_| true), "{log:#?}");
    log[successor].clone()
}

/// As in a roll: nobody is refused, and the throttle has nothing to say.
#[test]
fn disconnect_replaces_first_and_costs_nothing() {
    let server = start(&["--restart-limit", "0", "--kill-timeout", "60s"]);
    for round in 1..=3 {
        let pid = one_to_each(&server)[0].0;
        let mut client = loop {
            let mut client = server.connect();
            if client.get("/total").pid() == pid {
                break client;
            }
        };
        assert_eq!(said(&client.get("/disconnect")), "asked to be replaced");
        drop(client);
        let exit = exit_of(&server, pid);
        assert_eq!(
            (&exit["cause"], &exit["status"], &exit["forced"]),
            (&"disconnect".into(), &"code 0".into(), &false.into()),
            "round {round}"
        );
        left_after_its_replacement_listened(&server, &exit);
    }
    assert_eq!(server.events("fork").len(), 2 + 3, "one for each");
    assert!(server.events("suicide").is_empty() && server.events("giveup").is_empty());
    assert!(problems(&server).is_empty(), "{:?}", problems(&server));
}

#[test]
fn kill_is_a_crash_that_is_repaired() {
    let server = start(&[]);
    let (pid, mut client) = one_to_each(&server).remove(0);
    // the answer may be cut off by what it asks for
    let _ = client.try_get("/kill");
    let exit = exit_of(&server, pid);
    assert_eq!((&exit["cause"], &exit["status"]), (&"crash".into(), &"signal 9".into()));
    server.wait_until_whole();
    assert!(server.listening().iter().all(|(_, other)| *other != pid));
}

#[test]
fn a_socket_that_its_worker_did_not_take_before_it_died_is_an_event() {
    let server = start(&[]);
    let door = door(&server);
    // they take turns: the victim has the first and the third, so that all are on their way when the fourth is served
    let last = Client::connect(door).get("/sockets").pid();
    let victim = server.listening().into_iter().map(|(_, pid)| pid).find(|pid| *pid != last).unwrap();
    server.stop(victim);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(door)).collect();
    for client in &mut clients {
        client.send("GET /sockets HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let mut served = 0;
    server.wait("the other worker's are served", || {
        for client in &mut clients {
            client.stream.set_read_timeout(Some(std::time::Duration::from_millis(10))).unwrap();
            served += usize::from(client.read_answer().is_ok());
        }
        served == 2
    });
    kill(victim, "KILL");
    let lost = server.wait_for("what is lost", |line| line["event"] == "error" && line["pid"] == victim);
    assert_eq!(lost["problem"], "sockets to it are lost (2): it is gone");
}

#[test]
fn an_order_to_a_worker_that_is_gone_is_an_event_and_harms_nobody() {
    let server = start(&[]);
    let (pid, mut client) = one_to_each(&server).remove(0);
    let id = id_of(&server, pid);
    let _ = client.try_get("/kill");
    exit_of(&server, pid);
    let slot =
        server.wait_for("its listening", |line| line["id"] == id && line["event"] == "listening")["slot"]
            .clone();
    for (unknown, slot, pid) in [(id, slot, pid), (4242, 0.into(), 0)] {
        assert_eq!(said(&server.get(&format!("/tell?worker={unknown}"))), "asked to tell");
        let event = server.wait_for("the event", |line| line["event"] == "error" && line["id"] == unknown);
        assert_eq!(event["problem"], "a message to it is lost: it is gone");
        assert_eq!((&event["slot"], &event["pid"]), (&slot, &pid.into()));
    }
    server.wait_until_whole();
    assert_eq!(said(&server.get("/echo?n=10")), "10 back in order, 0 octets");
}

#[test]
fn connections_that_the_master_accepts_are_served_by_the_workers_in_turn() {
    let server = start(&[]);
    let door = door(&server);
    let mut clients = one_to_each(&server);
    let before: Vec<u64> = clients.iter_mut().map(|(_, client)| sockets(client)).collect();
    let mut pids = vec![];
    let mut guests: Vec<Client> = (0..10).map(|_| Client::connect(door)).collect();
    for (number, client) in guests.iter_mut().enumerate() {
        let answer = client.get("/sockets");
        pids.push(answer.pid());
        assert!(answer.text().starts_with("sockets "), "{number}: {answer:?}");
        assert_eq!(client.get("/total").status, 200, "and it stays open");
    }
    let workers: BTreeSet<i32> = server.listening().iter().map(|(_, pid)| *pid).collect();
    for pid in &workers {
        assert_eq!(pids.iter().filter(|other| *other == pid).count(), 5, "in turn: {pids:?}");
    }
    for ((_, client), before) in clients.iter_mut().zip(before) {
        assert_eq!(sockets(client), before + 5);
    }
    drop(clients);
    // they are clients like any other: served to the end of what is under way
    let mut last = Client::connect(door);
    assert_eq!(said(&last.get("/echo?n=3")), "3 back in order, 0 octets");
    drop(guests);
    server.signal("HUP");
    server.wait_for("the roll", |line| line["stage"] == "done");
    // the log is written a moment before the program is told
    server.wait("later ones go to the new workers", || {
        let next = Client::connect(door).try_get("/sockets");
        next.is_ok_and(|answer| !workers.contains(&answer.pid()))
    });
}

#[test]
fn the_master_stops_with_a_thread_of_the_programs_running() {
    let mut server = start(&[]);
    assert_eq!(said(&server.get("/")), "counted");
    server.signal("TERM");
    assert_eq!(server.wait_exit().code(), Some(0));
    server.wait_gone();
}
