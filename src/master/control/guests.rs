//! Who is connected to the control socket and the metrics address, and who has to go for somebody else: decided here, from what
//! each is about.
//!
//! Neighbours: `mod` accepts and serves them, and asks.

use super::PATIENCE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections to each of the two at a time; for one more somebody who asks nothing has to go, or it is answered 503. While
/// it is not known yet who asks something, it waits. A follower of the events is one.
pub const CONNECTIONS_MAX: usize = 32;

/// How long who has come over the network is sure of his place, while he is being answered.
pub const SURE: Duration = Duration::from_secs(1);

/// How long who does not take what is said to him may keep the server from its end. Whoever takes it hears the last word,
/// however long his thread has to wait for a core: only not longer than `PATIENCE`.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Who is connected.
#[derive(Default)]
pub struct Guests {
    pub last: u64,
    pub present: BTreeMap<u64, Present>,
    /// Where nobody is let in for now, and so somebody may be waiting in front.
    pub closed: Vec<Door>,
}

/// A connection.
pub struct Present {
    pub door: Door,
    pub socket: Arc<OwnedFd>,
    pub manner: Manner,
    /// Since when it has this manner. Who is idle has it from the end of the last answer, however much of a request has
    /// come meanwhile.
    pub since: Instant,
    /// Since when it has always had something to say or to hear.
    pub at_it_since: Option<Instant>,
}

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// Nothing: it has asked nothing, no more than half a request, or all that it has asked has its answer.
    Idle,
    /// It has said something, and it is about to be seen whether that is a request.
    Asking,
    /// It is being answered.
    Busy,
    /// It has no place (any more) and is about to go.
    Leaving,
}

/// Where one comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Control,
    Metrics,
}

/// Whether one more can come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Free,
    /// This one's.
    Of(u64),
    /// None, and he may be told so.
    Full,
    /// Somebody has said something and has not been heard yet, or too many are about to go: who comes waits in front, where
    /// the backlog has him, until more is known.
    Later,
}

impl Guests {
    /// Whether anybody is let in. Where nobody is, what may change that is told from now on.
    pub fn opens(&mut self, door: Door, now: Instant) -> bool {
        self.closed.retain(|closed| *closed != door);
        let opens = self.room(door, now) != Room::Later;
        if !opens {
            self.closed.push(door);
        }
        opens
    }

    /// What he is about now, and since when; where that changes who may come in, the door.
    pub fn note(&mut self, number: u64, manner: Manner, since: Instant) -> Option<Door> {
        let guest = self.present.get_mut(&number)?;
        if guest.manner == manner || guest.manner == Manner::Leaving {
            return None;
        }
        (guest.manner, guest.since) = (manner, since);
        // who has asked more meanwhile goes on
        if manner != Manner::Idle {
            guest.at_it_since.get_or_insert(since);
        } else if !has_unread(&guest.socket) {
            guest.at_it_since = None;
        }
        Some(guest.door)
    }

    /// For one more.
    pub fn room(&self, door: Door, now: Instant) -> Room {
        let mut own = self.present.values().filter(|guest| guest.door == door);
        if own.clone().count() >= 2 * CONNECTIONS_MAX {
            return Room::Later;
        }
        if self.staying(door) < CONNECTIONS_MAX {
            return Room::Free;
        }
        match self.who_makes_room(door, now) {
            Some(number) => Room::Of(number),
            None if own.any(|guest| matches!(guest.manner, Manner::Idle | Manner::Asking)) => Room::Later,
            None => Room::Full,
        }
    }

    /// At the end, when it has lasted so long: whether anybody is there who has yet to hear the last word, and can.
    pub fn are_worth_waiting_for(&self, waited: Duration) -> bool {
        let mut present = self.present.values();
        present.any(|guest| waited < LAST_WORDS || waited < PATIENCE && takes_more(&guest.socket))
    }

    fn staying(&self, door: Door) -> usize {
        let own = self.present.values().filter(|guest| guest.door == door);
        own.filter(|guest| guest.manner != Manner::Leaving).count()
    }

    /// Takes him in and lets another one go for him, or takes him in to be turned away in words.
    pub fn receive(&mut self, door: Door, socket: Arc<OwnedFd>, room: Room, now: Instant) -> u64 {
        if let Room::Of(number) = room
            && let Some(guest) = self.present.get_mut(&number)
        {
            (guest.manner, guest.since) = (Manner::Leaving, now);
            let _ = shutdown(guest.socket.as_raw_fd(), Shutdown::Both);
        }
        let manner = if room == Room::Full { Manner::Leaving } else { Manner::Idle };
        self.last += 1;
        self.present.insert(self.last, Present { door, socket, manner, since: now, at_it_since: None });
        self.last
    }

    /// Who has been idle longest: whoever only holds his place keeps nobody from asking. Where nobody is, one who came over
    /// the network and has been at it for long: he does not take his answer, asks a loop that hangs, or asks without end. What
    /// operators wait for is not cut off.
    pub fn who_makes_room(&self, door: Door, now: Instant) -> Option<u64> {
        let is_long_at_it = |guest: &Present| {
            door == Door::Metrics && guest.at_it_since.is_some_and(|since| now.duration_since(since) >= SURE)
        };
        let may_go = |guest: &Present| match guest.manner {
            // whose request is here has only not been heard yet
            Manner::Idle if !has_unread(&guest.socket) => true,
            Manner::Idle | Manner::Asking | Manner::Busy => is_long_at_it(guest),
            Manner::Leaving => false,
        };
        let own = self.present.iter().filter(|(_, guest)| guest.door == door && may_go(guest));
        own.min_by_key(|(_, guest)| (guest.manner, guest.since)).map(|(number, _)| *number)
    }
}

/// Whether anything has come that nobody has taken yet; the end is nothing.
fn has_unread(socket: &OwnedFd) -> bool {
    recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK)
        .is_ok_and(|octets| octets > 0)
}

/// Whether what is written goes out; a client that is gone keeps nobody waiting either.
fn takes_more(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn whoever_has_asked_nothing_for_longest_makes_room() {
        use Door::{Control, Metrics};
        use Manner::{Busy, Idle, Leaving};
        let now = Instant::now();
        type Crowd<'a> = &'a [(Door, Manner, u64)];
        let table: [(Door, Crowd<'_>, Option<u64>); 7] = [
            (Metrics, &[], None),
            (Metrics, &[(Metrics, Idle, 5), (Metrics, Idle, 9), (Metrics, Idle, 7)], Some(2)),
            (Metrics, &[(Metrics, Busy, 90), (Metrics, Idle, 0)], Some(2)),
            (Metrics, &[(Control, Idle, 90), (Metrics, Leaving, 90), (Metrics, Busy, 0)], None),
            (Metrics, &[(Metrics, Busy, 1), (Metrics, Busy, 2), (Metrics, Busy, 0)], Some(2)),
            (Control, &[(Control, Busy, 90), (Metrics, Idle, 90)], None),
            (Control, &[(Control, Busy, 90), (Control, Idle, 0)], Some(2)),
        ];
        for (door, present, expected) in table {
            let mut guests = Guests::default();
            for (number, (door, manner, age)) in (1..).zip(present) {
                let socket = Arc::new(UnixStream::pair().unwrap().0.into());
                let since = now.checked_sub(Duration::from_secs(*age)).unwrap();
                let (door, manner) = (*door, *manner);
                let at_it_since = (manner != Idle).then_some(since);
                guests.present.insert(number, Present { door, socket, manner, since, at_it_since });
            }
            assert_eq!(guests.who_makes_room(door, now), expected, "{door:?} {present:?}");
        }
    }

    #[test]
    fn who_has_asked_is_not_let_go_before_he_is_heard() {
        use Manner::{Asking, Busy, Idle, Leaving};
        let (mut guests, mut clients) = (Guests::default(), vec![]);
        let mut now = Instant::now();
        let mut come = |guests: &mut Guests, now| {
            let room = guests.room(Door::Control, now);
            let (ours, theirs) = UnixStream::pair().unwrap();
            clients.push(theirs);
            guests.receive(Door::Control, Arc::new(ours.into()), room, now);
            room
        };
        for _ in 0..CONNECTIONS_MAX {
            assert_eq!(come(&mut guests, now), Room::Free);
            now += Duration::from_millis(1);
        }
        assert_eq!(come(&mut guests, now), Room::Of(1));
        let (all, first) = (CONNECTIONS_MAX + 1, &guests.present[&1]);
        assert_eq!((first.manner, guests.staying(Door::Control)), (Leaving, CONNECTIONS_MAX));
        for client in &mut clients {
            // the first one is cut
            let _ = client.write_all(b"GET");
        }
        assert_eq!(guests.room(Door::Control, now), Room::Later);
        guests.present.values_mut().skip(2).for_each(|guest| guest.manner = Busy);
        assert_eq!(guests.room(Door::Control, now), Room::Later);
        let second = |guests: &mut Guests, manner| guests.present.get_mut(&2).unwrap().manner = manner;
        second(&mut guests, Asking);
        assert_eq!(guests.room(Door::Control, now), Room::Later);
        second(&mut guests, Busy);
        assert_eq!(guests.room(Door::Control, now), Room::Full);
        drop(clients.remove(all - 1));
        guests.present.get_mut(&(all as u64)).unwrap().manner = Idle;
        assert_eq!(guests.room(Door::Control, now), Room::Later, "who has left may have asked before");
    }
}
