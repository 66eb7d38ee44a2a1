//! Which of the codings that a file is at hand in a client likes best (RFC 9110 section 12.5.3). One pass over the
//! value, nothing allocated.
//!
//! Neighbours: `conditional` finds the field.

/// A content coding (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Coding {
    Identity,
    Gzip,
    Zstd,
    Brotli,
}

/// The codings that a file is at hand in. Identity is always among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codings(u8);

/// Thousandths, 0 to 1000.
type Weight = u16;

/// What the client wants of several equally.
const PREFERENCE: [Coding; 4] = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Identity];

/// The coding to answer in, `None` when the client accepts none of them (406). `accept` is the field's value; no
/// field accepts identity only here, though it would allow anything.
///
/// Identity that is not named is acceptable unless `*;q=0` excludes it, and then the last choice: whoever names
/// codings wants one. An element that is malformed is ignored; of a coding named twice the lower weight counts, so
/// that nothing is sent that has been refused.
pub fn choose(accept: Option<&[u8]>, available: Codings) -> Option<Coding> {
    match accept {
        Some(accept) => Weights::read(accept).best(available),
        None => Some(Coding::Identity),
    }
}

impl Codings {
    /// The file as it is, and no other.
    pub const IDENTITY: Codings = Codings(1 << Coding::Identity as u8);

    /// These and one more.
    #[must_use]
    pub const fn with(self, coding: Coding) -> Codings {
        Codings(self.0 | 1 << coding as u8)
    }

    /// Whether the file is at hand in this one.
    pub const fn contains(self, coding: Coding) -> bool {
        self.0 & 1 << coding as u8 != 0
    }
}

impl Coding {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
        }
    }

    /// Content codings are case-insensitive (section 8.4.1); x-gzip means gzip (section 8.4.1.3).
    fn from_name(name: &[u8]) -> Option<Coding> {
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"br") => Some(Coding::Brotli),
            4 if name.eq_ignore_ascii_case(b"gzip") => Some(Coding::Gzip),
            4 if name.eq_ignore_ascii_case(b"zstd") => Some(Coding::Zstd),
            6 if name.eq_ignore_ascii_case(b"x-gzip") => Some(Coding::Gzip),
            8 if name.eq_ignore_ascii_case(b"identity") => Some(Coding::Identity),
            _ => None,
        }
    }
}

/// What the client said of each coding, and of all that it did not name.
#[derive(Default)]
struct Weights {
    named: [Option<Weight>; 4],
    others: Option<Weight>,
}

impl Weights {
    fn read(accept: &[u8]) -> Weights {
        let mut weights = Weights::default();
        for element in accept.split(|&c| c == b',') {
            if let Some((name, weight)) = split_weight(element.trim_ascii()) {
                weights.note(name, weight);
            }
        }
        weights
    }

    fn note(&mut self, name: &[u8], weight: Weight) {
        let slot = match Coding::from_name(name) {
            Some(coding) => &mut self.named[coding as usize],
            None if name == b"*" => &mut self.others,
            None => return,
        };
        *slot = Some(slot.map_or(weight, |earlier| earlier.min(weight)));
    }

    fn best(&self, available: Codings) -> Option<Coding> {
        let mut best = None;
        for coding in PREFERENCE.into_iter().filter(|coding| available.contains(*coding)) {
            let rank = self.rank(coding);
            if rank > best.map_or(0, |(_, rank)| rank) {
                best = Some((coding, rank));
            }
        }
        best.map(|(coding, _)| coding)
    }

    /// 0 for what is not acceptable. A weight counts double so that identity unnamed fits below the least of them.
    fn rank(&self, coding: Coding) -> u16 {
        match (self.named[coding as usize], coding, self.others) {
            (Some(weight), ..) => weight * 2,
            (None, Coding::Identity, Some(0)) => 0,
            (None, Coding::Identity, _) => 1,
            (None, _, others) => others.unwrap_or(0) * 2,
        }
    }
}

/// codings [ OWS ";" OWS "q=" qvalue ] (sections 12.5.3 and 12.4.2).
fn split_weight(element: &[u8]) -> Option<(&[u8], Weight)> {
    let Some(semicolon) = memchr::memchr(b';', element) else {
        return Some((element, 1000));
    };
    match element[semicolon + 1..].trim_ascii_start() {
        [b'q' | b'Q', b'=', qvalue @ ..] => {
            Some((element[..semicolon].trim_ascii_end(), read_qvalue(qvalue)?))
        }
        _ => None,
    }
}

/// qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] ) (section 12.4.2).
fn read_qvalue(qvalue: &[u8]) -> Option<Weight> {
    let (whole, decimals): (_, &[u8]) = match qvalue {
        [whole @ (b'0' | b'1')] => (whole, b""),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut weight = Weight::from(whole - b'0') * 1000;
    for (decimal, unit) in decimals.iter().zip([100, 10, 1]) {
        weight += decimal.is_ascii_digit().then(|| Weight::from(decimal - b'0') * unit)?;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Codings = GZIP.with(Coding::Zstd).with(Coding::Brotli);
    const GZIP: Codings = NONE.with(Coding::Gzip);
    const NONE: Codings = Codings::IDENTITY;

    #[test]
    fn fields_and_the_coding_they_get() {
        use Coding::{Brotli, Gzip, Identity, Zstd};
        let table: &[(&str, Codings, Option<Coding>)] = &[
            // RFC 9110 section 12.5.3: the examples
            ("compress, gzip", ALL, Some(Gzip)),
            ("", ALL, Some(Identity)),
            ("*", ALL, Some(Brotli)),
            ("compress;q=0.5, gzip;q=1.0", ALL, Some(Gzip)),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", ALL, Some(Gzip)),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", NONE, Some(Identity)),
            // of equal weights the server's preference
            ("gzip, deflate, br, zstd", ALL, Some(Brotli)),
            ("gzip, deflate, zstd", ALL, Some(Zstd)),
            ("gzip, deflate, br, zstd", GZIP, Some(Gzip)),
            ("gzip, deflate, br, zstd", NONE, Some(Identity)),
            ("identity, gzip", ALL, Some(Gzip)),
            ("identity;q=0.5, gzip;q=0.5", ALL, Some(Gzip)),
            // weights come first
            ("gzip;q=1, br;q=0.9", ALL, Some(Gzip)),
            ("gzip;q=0.001, br;q=0", ALL, Some(Gzip)),
            ("zstd;q=0.998, gzip;q=0.999, br;q=0.99", ALL, Some(Gzip)),
            ("identity, gzip;q=0.9", ALL, Some(Identity)),
            ("identity;q=0.5, gzip;q=0.1", ALL, Some(Identity)),
            // identity that is not named is acceptable, but last
            ("gzip;q=0.001", ALL, Some(Gzip)),
            ("deflate", ALL, Some(Identity)),
            ("gzip;q=0", ALL, Some(Identity)),
            ("gzip;q=0.2, *;q=0.8", GZIP, Some(Gzip)),
            // the asterisk stands for what is not named
            ("*;q=0.1, gzip;q=0.2", ALL, Some(Gzip)),
            ("*;q=0.2, gzip;q=0.1", ALL, Some(Brotli)),
            ("br;q=0, *", ALL, Some(Zstd)),
            ("identity, *;q=0", ALL, Some(Identity)),
            ("*, identity;q=0", NONE, None),
            // nothing is acceptable
            ("identity;q=0", ALL, None),
            ("identity;q=0, gzip", ALL, Some(Gzip)),
            ("identity;q=0, br", GZIP, None),
            ("*;q=0", ALL, None),
            ("*;q=0.000, gzip", ALL, Some(Gzip)),
            ("*;q=0, gzip", NONE, None),
            // section 8.4.1: names are case-insensitive; section 8.4.1.3: x-gzip
            ("GZip", ALL, Some(Gzip)),
            ("X-GZIP", ALL, Some(Gzip)),
            ("BR", ALL, Some(Brotli)),
            ("IDENTITY;Q=0, *", NONE, None),
            // section 12.4.2: weights; what is malformed is ignored
            ("gzip;q=0.", ALL, Some(Identity)),
            ("gzip;q=1.", ALL, Some(Gzip)),
            ("gzip;q=1.000", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=1.001", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=0.9999", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=2", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=-1", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=.9", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=0.x", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q =1", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q= 1", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;level=9", ALL, Some(Gzip)),
            ("gzip;q=0.5, br;q=1;level=9", ALL, Some(Gzip)),
            ("gzip;q=0.5, b r", ALL, Some(Gzip)),
            ("identity;q=0x", ALL, Some(Identity)),
            // section 5.6.1.2: empty elements and white space
            (",, gzip \t; \tq=0.5 ,,", ALL, Some(Gzip)),
            (" , ", ALL, Some(Identity)),
            // named twice
            ("gzip;q=0, gzip", ALL, Some(Identity)),
            ("gzip, x-gzip;q=0", ALL, Some(Identity)),
            ("*, *;q=0", ALL, None),
        ];
        for (accept, available, expected) in table {
            assert_eq!(choose(Some(accept.as_bytes()), *available), *expected, "{accept:?} {available:?}");
        }
        assert_eq!(choose(None, ALL), Some(Identity));
    }

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for coding in PREFERENCE {
            assert_eq!(Coding::from_name(coding.as_str().as_bytes()), Some(coding));
        }
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["br", "zstd", "gzip", "identity", "*", "deflate"])
    }

    fn set() -> impl Strategy<Value = Codings> {
        (0u8..8).prop_map(|others| Codings(others << 1 | 1))
    }

    proptest! {
        /// The rules once more, sorted instead of searched.
        #[test]
        fn the_choice_is_the_first_when_sorted(
            weights in prop::collection::hash_map(name(), 0u16..=1000, 0..7),
            available in set(),
        ) {
            let accept: Vec<String> = weights
                .iter()
                .map(|(name, weight)| format!("{name};q={}.{:03}", weight / 1000, weight % 1000))
                .collect();
            let weight = |coding: Coding| match (weights.get(coding.as_str()), weights.get("*")) {
                (Some(weight), _) => f64::from(*weight),
                (None, Some(0)) => 0.0,
                (None, _) if coding == Coding::Identity => 0.5,
                (None, others) => others.map_or(0.0, |weight| f64::from(*weight)),
            };
            let mut sorted: Vec<Coding> = PREFERENCE
                .into_iter()
                .filter(|coding| available.contains(*coding) && weight(*coding) > 0.0)
                .collect();
            sorted.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)));
            prop_assert_eq!(choose(Some(accept.join(", ").as_bytes()), available), sorted.first().copied());
        }

        #[test]
        fn any_value_gets_what_is_at_hand(accept in prop::collection::vec(any::<u8>(), 0..60), available in set()) {
            let chosen = choose(Some(&accept), available);
            prop_assert!(chosen.is_none_or(|coding| available.contains(coding)));
        }
    }
}
