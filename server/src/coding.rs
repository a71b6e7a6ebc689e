//! Content codings and their negotiation (RFC 9110 §8.4.1 and §12.5.3), sans-IO.
//!
//! Values of `Accept-Encoding` in, a choice among what there is out. An element that is malformed is ignored, as if it
//! were not there.
#![forbid(unsafe_code)]

use crate::message;

/// How content may be coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `gzip` (RFC 1952)
    Gzip,
    /// `deflate`: the zlib format (RFC 1950)
    Deflate,
    /// `br` (RFC 7932)
    Brotli,
    /// `zstd` (RFC 8878)
    Zstd,
}

/// The stack that the libraries may use; a thread goes on with a further one where it has less ([`bast::ensure_stack`]). Flate2
/// composes its tables on the stack before they move to the heap: more than 256 KiB without optimisation.
#[cfg(feature = "gzip")]
pub(crate) const CODER_STACK_BYTES: usize = 512 << 10;

impl Coding {
    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    /// The value of `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }

    fn from_name(name: &[u8]) -> Option<Coding> {
        // RFC 9110 §8.4.1.3: x-gzip is to be read as gzip.
        let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
        Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
    }
}

/// Fields with a checksum of the content, or of the representation in its coding (RFC 9530; RFC 3230 and RFC 1864 before it):
/// those of the plain content are wrong for what is coded.
pub(crate) const DIGESTS: &[&str] = &["Content-Digest", "Repr-Digest", "Digest", "Content-MD5"];

/// What to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Coding(Coding),
    Identity,
    /// None of what there is may be sent, nor the content as it is.
    Nothing,
}

/// A weight in thousandths.
type Weight = u16;

/// What a client takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    codings: [Option<Weight>; 4],
    identity: Option<Weight>,
    /// `*`
    others: Option<Weight>,
}

impl Accepted {
    /// Reads the values of all `Accept-Encoding` fields of a request.
    pub(crate) fn from_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Accepted {
        let mut accepted = Accepted::default();
        let values = fields.filter(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"));
        for element in values.flat_map(|(_, value)| message::list(value)) {
            accepted.add(element);
        }
        accepted
    }

    fn add(&mut self, element: &[u8]) {
        let mut parts = element.splitn(2, |&byte| byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let Some(weight) = parts.next().map_or(Some(1000), weight) else { return };
        if name == b"*" {
            self.others = Some(weight);
        } else if name.eq_ignore_ascii_case(b"identity") {
            self.identity = Some(weight);
        } else if let Some(coding) = Coding::from_name(name) {
            self.codings[coding as usize] = Some(weight);
        }
    }

    /// The weight of a coding; 0 is unacceptable.
    ///
    /// A client that says nothing would take anything by the letter of the RFC, but such clients are old and simple.
    pub(crate) fn weight(&self, coding: Coding) -> Weight {
        self.codings[coding as usize].or(self.others).unwrap_or(0)
    }

    /// May the content be sent as it is?
    pub(crate) fn takes_identity(&self) -> bool {
        self.identity.or(self.others) != Some(0)
    }

    /// The best of `offered`, which stand in the order that the server prefers among equals.
    pub(crate) fn choose(&self, offered: impl IntoIterator<Item = Coding>) -> Choice {
        let mut best: Option<(Weight, Coding)> = None;
        for coding in offered {
            let weight = self.weight(coding);
            if weight > best.map_or(0, |(best, _)| best) {
                best = Some((weight, coding));
            }
        }
        match best {
            // Only what is explicitly preferred beats a coding that is taken at all.
            Some((weight, coding)) if self.identity.is_none_or(|identity| identity <= weight) => {
                Choice::Coding(coding)
            }
            Some(_) => Choice::Identity,
            None if self.takes_identity() => Choice::Identity,
            None => Choice::Nothing,
        }
    }
}

/// The weight of `q=0.5` in thousandths (RFC 9110 §12.4.2); `None` where it is none.
fn weight(parameter: &[u8]) -> Option<Weight> {
    let parameter = parameter.trim_ascii();
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, fraction) = match value {
        [whole] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return None,
    };
    let mut thousandths = 0;
    for place in 0..3 {
        let digit = *fraction.get(place).unwrap_or(&b'0');
        thousandths = thousandths * 10 + Weight::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    match (whole, thousandths) {
        (b'0', _) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

/// Is content of this media type worth compressing? Text of all kinds is, images and archives are compressed already.
#[cfg(feature = "gzip")]
pub(crate) fn is_compressible(content_type: &str) -> bool {
    const TYPES: &[&str] = &[
        "application/javascript",
        "application/json",
        "application/manifest+json",
        "application/rtf",
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/x-javascript",
        "application/x-ndjson",
        "application/xml",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/svg+xml",
        "image/x-icon",
        "image/vnd.microsoft.icon",
    ];
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let has_start = |start: &str| essence.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start));
    let has_end = |end: &str| {
        essence
            .len()
            .checked_sub(end.len())
            .and_then(|at| essence.get(at..))
            .is_some_and(|it| it.eq_ignore_ascii_case(end))
    };
    has_start("text/")
        || has_end("+json")
        || has_end("+xml")
        || TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(value: Option<&str>, offered: &[Coding]) -> Choice {
        let fields = value.map(|value| ("Accept-encoding", value.as_bytes()));
        Accepted::from_fields(fields.into_iter()).choose(offered.iter().copied())
    }

    #[test]
    fn the_best_that_both_know_is_chosen() {
        use Choice::{Identity, Nothing};
        use Coding::{Brotli, Gzip};
        const GZIP: Choice = Choice::Coding(Gzip);
        const BROTLI: Choice = Choice::Coding(Brotli);
        let both = [Brotli, Gzip];
        for (value, expected) in [
            (None, Identity),
            (Some(""), Identity),
            (Some("gzip"), GZIP),
            (Some("GZIP"), GZIP),
            (Some("x-gzip"), GZIP),
            (Some("gzip, br"), BROTLI),
            (Some("gzip;q=0.5, br;q=0.4"), GZIP),
            (Some("gzip;q=0.500 , br ; q=0.501"), BROTLI),
            (Some("gzip;Q=1.000, br;q=0"), GZIP),
            (Some("*"), BROTLI),
            (Some("br;q=0, *"), GZIP),
            (Some("*;q=0, gzip"), GZIP),
            (Some("compress, foo"), Identity),
            (Some("identity"), Identity),
            (Some("identity, gzip;q=0.5"), Identity),
            (Some("identity;q=0.5, gzip;q=0.5"), GZIP),
            (Some("identity;q=0"), Nothing),
            (Some("identity;q=0, compress"), Nothing),
            (Some("identity;q=0, gzip;q=0.001"), GZIP),
            (Some("*;q=0"), Nothing),
            (Some("*;q=0, identity"), Identity),
            (Some("*;q=0, identity;q=0.1, compress"), Identity),
            (Some("gzip;q=0"), Identity),
            // Malformed weights make an element none.
            (Some("gzip;q=2"), Identity),
            (Some("gzip;q=1.1, br;q=0.1"), BROTLI),
            (Some("gzip;q=0.1234"), Identity),
            (Some("gzip;q="), Identity),
            (Some("gzip;q=.5"), Identity),
            (Some("gzip;level=9"), Identity),
            (Some("identity;q=0.0.0"), Identity),
            (Some(",, gzip ,"), GZIP),
        ] {
            assert_eq!(choose(value, &both), expected, "{value:?}");
        }
        assert_eq!(choose(Some("gzip, br"), &[]), Identity);
        assert_eq!(choose(Some("gzip, *;q=0"), &[Brotli]), Nothing);
    }

    #[test]
    fn several_fields_are_one_list() {
        let fields = [("Accept-Encoding", b"identity;q=0".as_slice()), ("accept-encoding", b"zstd")];
        let accepted = Accepted::from_fields(fields.into_iter());
        assert_eq!(accepted.choose(Coding::ALL), Choice::Coding(Coding::Zstd));
        assert!(!accepted.takes_identity());
    }

    #[test]
    fn text_is_worth_compressing_and_pictures_are_not() {
        for worth in [
            "text/html; charset=utf-8",
            "TEXT/CSS",
            "application/json",
            "application/problem+json;x=y",
            "application/atom+xml",
            "image/svg+xml",
            "text/event-stream",
        ] {
            assert!(is_compressible(worth), "{worth}");
        }
        for not in [
            "",
            "image/png",
            "video/mp4",
            "application/zip",
            "font/woff2",
            "application/octet-stream",
            "\u{e9}xt/",
        ] {
            assert!(!is_compressible(not), "{not}");
        }
    }
}
