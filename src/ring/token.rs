//! What a submission carries in `user_data` and its completion brings back: kind + generation + slot. The generation
//! tells a completion for the connection that lives in a slot now from one for its predecessor there.
//!
//! Neighbours: made and read by `ring`; the worker sees `Token` in completions.

/// Generations wrap at 24 bits: a stale completion would have to outlive 16.7 million reuses of its slot.
pub const GENERATION_MASK: u32 = 0x00ff_ffff;

/// Who is meant: a slot, and which of its successive users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The direct descriptor (for accepts: the listener's number).
    pub slot: u32,
    /// Which of the slot's successive connections.
    pub generation: u32,
}

/// Which operation completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Receive,
    SendBatch,
    Send,
    Populate,
    Shutdown,
    Close,
    Install,
    Watch,
    File,
    Connect,
    Append,
    Cancel,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::Accept,
        Kind::Receive,
        Kind::SendBatch,
        Kind::Send,
        Kind::Populate,
        Kind::Shutdown,
        Kind::Close,
        Kind::Install,
        Kind::Watch,
        Kind::File,
        Kind::Connect,
        Kind::Append,
        Kind::Cancel,
    ];
}

impl Token {
    /// Names a slot's present user.
    pub fn new(slot: u32, generation: u32) -> Token {
        Token { slot, generation: generation & GENERATION_MASK }
    }

    pub(super) fn pack(self, kind: Kind) -> u64 {
        (kind as u64) << 56 | u64::from(self.generation & GENERATION_MASK) << 32 | u64::from(self.slot)
    }

    /// `None` for a word that this process cannot have submitted.
    pub(super) fn unpack(user_data: u64) -> Option<(Kind, Token)> {
        let kind = *Kind::ALL.get(((user_data >> 56) as usize).wrapping_sub(1))?;
        Some((kind, Token { slot: user_data as u32, generation: (user_data >> 32) as u32 & GENERATION_MASK }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(slot: u32, generation: u32, kind in 0usize..Kind::ALL.len()) {
            let (kind, token) = (Kind::ALL[kind], Token::new(slot, generation));
            prop_assert_eq!(Token::unpack(token.pack(kind)), Some((kind, token)));
        }
    }

    #[test]
    fn a_foreign_word_is_recognised() {
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
