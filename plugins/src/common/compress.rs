//! Content encodings: gzip, zlib and Zstandard by the names and levels of options.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// An encoder of a fixed kind and level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// Bytes stay as they are.
    Identity,
    /// gzip with this level of flate2.
    Gzip(u32),
    /// zlib with this level of flate2.
    Zlib(u32),
    /// Zstandard with this level.
    #[cfg(feature = "zstd")]
    Zstd(i32),
}

/// Why there is no encoder of this kind and level.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EncoderError {
    /// The name is none that is known.
    #[error("compression algorithm {0:?} is none of \"identity\", \"gzip\", \"zlib\", \"zstd\"")]
    Algorithm(String),
    /// The level is none of this algorithm's.
    #[error("compression level {level} is none of {algorithm}, which knows {known}")]
    Level {
        /// The algorithm.
        algorithm: &'static str,
        /// The level asked for.
        level: i64,
        /// The levels there are.
        known: &'static str,
    },
    /// Known, but left out of this build.
    #[error("compression algorithm \"zstd\" is not in this program: it was built without `zstd`")]
    NotBuilt,
}

impl Encoder {
    /// The encoder of an algorithm, empty for none; a level below zero is the algorithm's default.
    ///
    /// # Errors
    /// If the name is unknown (case counts) or the level is none that Telegraf takes.
    pub fn new(algorithm: &str, level: i64) -> Result<Self, EncoderError> {
        match algorithm {
            "" | "identity" if level < 0 => Ok(Self::Identity),
            "" | "identity" => Err(EncoderError::Level { algorithm: "identity", level, known: "none" }),
            "gzip" => deflate_level("gzip", level).map(Self::Gzip),
            "zlib" => deflate_level("zlib", level).map(Self::Zlib),
            "zstd" => zstd(level),
            other => Err(EncoderError::Algorithm(other.to_owned())),
        }
    }

    /// Appends `data`, encoded as a whole of its own: members can be put one behind the other.
    ///
    /// # Errors
    /// If the library fails, which for memory it does not.
    pub fn encode(self, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Identity => out.extend_from_slice(data),
            Self::Gzip(level) => {
                let mut encoder = GzEncoder::new(out, Compression::new(level));
                encoder.write_all(data)?;
                encoder.finish()?;
            }
            Self::Zlib(level) => {
                let mut encoder = ZlibEncoder::new(out, Compression::new(level));
                encoder.write_all(data)?;
                encoder.finish()?;
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(level) => {
                let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
                encoder.write_all(data)?;
                encoder.finish()?;
            }
        }
        Ok(())
    }
}

fn deflate_level(algorithm: &'static str, level: i64) -> Result<u32, EncoderError> {
    match level {
        0 | 1 | 9 => Ok(level as u32),
        _ if level < 0 => Ok(Compression::default().level()),
        _ => Err(EncoderError::Level { algorithm, level, known: "0, 1, 9" }),
    }
}

#[cfg(feature = "zstd")]
fn zstd(level: i64) -> Result<Encoder, EncoderError> {
    match level {
        1 | 3 | 7 | 11 => Ok(Encoder::Zstd(level as i32)),
        _ if level < 0 => Ok(Encoder::Zstd(3)),
        _ => Err(EncoderError::Level { algorithm: "zstd", level, known: "1, 3, 7, 11" }),
    }
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: i64) -> Result<Encoder, EncoderError> {
    Err(EncoderError::NotBuilt)
}

#[cfg(all(test, feature = "zstd"))]
mod tests {
    use std::io::Read;

    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn check(algorithm: &str, level: i64, expected: Expect) {
        expected.assert_eq(&match Encoder::new(algorithm, level) {
            Ok(encoder) => format!("{encoder:?}"),
            Err(error) => format!("error: {error}"),
        });
    }

    fn decode(algorithm: &str, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match algorithm {
            "gzip" => flate2::read::MultiGzDecoder::new(data).read_to_end(&mut out).unwrap(),
            "zlib" => flate2::read::ZlibDecoder::new(data).read_to_end(&mut out).unwrap(),
            "zstd" => zstd::stream::read::Decoder::new(data).unwrap().read_to_end(&mut out).unwrap(),
            _ => {
                out.extend_from_slice(data);
                0
            }
        };
        out
    }

    #[test]
    fn names_and_levels() {
        check("", -1, expect!["Identity"]);
        check("identity", -7, expect!["Identity"]);
        check("gzip", -1, expect!["Gzip(6)"]);
        check("zlib", 0, expect!["Zlib(0)"]);
        check("zstd", -1, expect!["Zstd(3)"]);
        check("zstd", 11, expect!["Zstd(11)"]);
        check("identity", 0, expect!["error: compression level 0 is none of identity, which knows none"]);
        check("gzip", 5, expect!["error: compression level 5 is none of gzip, which knows 0, 1, 9"]);
        check("zstd", 2, expect!["error: compression level 2 is none of zstd, which knows 1, 3, 7, 11"]);
        check(
            "GZIP",
            1,
            expect![[r#"error: compression algorithm "GZIP" is none of "identity", "gzip", "zlib", "zstd""#]],
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(data: Vec<u8>) {
            for algorithm in ["identity", "gzip", "zlib", "zstd"] {
                let mut out = Vec::new();
                Encoder::new(algorithm, -1).unwrap().encode(&data, &mut out).unwrap();
                prop_assert_eq!(&decode(algorithm, &out), &data);
            }
        }

        #[test]
        fn members_follow_each_other(a: Vec<u8>, b: Vec<u8>) {
            for algorithm in ["gzip", "zstd"] {
                let (mut out, encoder) = (Vec::new(), Encoder::new(algorithm, -1).unwrap());
                encoder.encode(&a, &mut out).unwrap();
                encoder.encode(&b, &mut out).unwrap();
                prop_assert_eq!(decode(algorithm, &out), [a.clone(), b.clone()].concat());
            }
        }
    }
}
