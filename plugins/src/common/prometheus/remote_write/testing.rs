//! A decoder of requests, for tests.

use super::Version;

/// A decoded request: labels, float samples, and raw histograms, as they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) samples: Vec<(f64, i64)>,
    /// Since when each of the samples counts; zero where that is not said.
    pub(crate) starts: Vec<i64>,
    pub(crate) histograms: Vec<Vec<u8>>,
    /// The type, where it is said.
    pub(crate) kind: u64,
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn number(message: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = message[0];
        *message = &message[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

/// The fields of a message.
fn fields(mut message: &[u8]) -> Vec<(u64, Content<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = number(&mut message);
        let content = match key & 7 {
            0 => Content::Number(number(&mut message)),
            1 => {
                let (value, rest) = message.split_at(8);
                message = rest;
                Content::Number(u64::from_le_bytes(value.try_into().unwrap()))
            }
            2 => {
                let len = number(&mut message) as usize;
                let (value, rest) = message.split_at(len);
                message = rest;
                Content::Bytes(value)
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, content));
    }
    fields
}

/// The series of a compressed request.
pub(crate) fn decode(request: &[u8], version: Version) -> Vec<Series> {
    let raw = snap::raw::Decoder::new().decompress_vec(request).unwrap();
    let messages = fields(&raw);
    match version {
        Version::One => messages.iter().map(|message| decode_first(message)).collect(),
        Version::Two => {
            let of = |wanted: u64| {
                messages.iter().filter_map(move |(field, content)| match content {
                    Content::Bytes(bytes) if *field == wanted => Some(*bytes),
                    Content::Bytes(_) if matches!(field, 4 | 5) => None,
                    _ => panic!("field {field} of a request"),
                })
            };
            let symbols: Vec<&[u8]> = of(4).collect();
            assert_eq!(symbols.first(), Some(&&b""[..]));
            assert_eq!(symbols.len(), symbols.iter().collect::<std::collections::HashSet<_>>().len());
            of(5).map(|series| decode_second(series, &symbols)).collect()
        }
    }
}

fn decode_first((field, content): &(u64, Content<'_>)) -> Series {
    match content {
        Content::Bytes(series) if *field == 1 => decode_series(series),
        Content::Bytes(metadata) if *field == 3 => {
            let mut series = Series::default();
            for (field, content) in fields(metadata) {
                match content {
                    Content::Number(kind) if field == 1 => series.kind = kind,
                    Content::Bytes(name) if field == 2 => series.labels.push((b"metadata".to_vec(), name.to_vec())),
                    _ => panic!("field {field} of metadata"),
                }
            }
            series
        }
        _ => panic!("field {field} of a request"),
    }
}

fn decode_second(message: &[u8], symbols: &[&[u8]]) -> Series {
    let mut series = Series::default();
    for (field, content) in fields(message) {
        let Content::Bytes(inner) = content else { panic!("field {field} is a message") };
        match field {
            1 => {
                let mut rest = inner;
                let mut texts = Vec::new();
                while !rest.is_empty() {
                    texts.push(symbols[number(&mut rest) as usize].to_vec());
                }
                series.labels.extend(texts.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())));
            }
            2 => {
                let (sample, start) = decode_sample(inner);
                series.samples.push(sample);
                series.starts.push(start);
            }
            3 => series.histograms.push(inner.to_vec()),
            5 => match fields(inner)[..] {
                [(1, Content::Number(kind))] => series.kind = kind,
                _ => panic!("metadata holds more than a type"),
            },
            _ => panic!("field {field} of a series"),
        }
    }
    series
}

fn decode_series(message: &[u8]) -> Series {
    let mut series = Series::default();
    for (field, content) in fields(message) {
        let Content::Bytes(inner) = content else { panic!("field {field} is a message") };
        match field {
            1 => {
                let mut label = (Vec::new(), Vec::new());
                for (field, content) in fields(inner) {
                    let Content::Bytes(text) = content else { panic!("labels are texts") };
                    *(if field == 1 { &mut label.0 } else { &mut label.1 }) = text.to_vec();
                }
                series.labels.push(label);
            }
            2 => {
                let (sample, start) = decode_sample(inner);
                assert_eq!(start, 0, "1.0 has no place for it");
                series.samples.push(sample);
                series.starts.push(start);
            }
            _ => series.histograms.push(inner.to_vec()),
        }
    }
    series
}

fn decode_sample(message: &[u8]) -> ((f64, i64), i64) {
    let (mut sample, mut start) = ((0.0, 0), 0);
    for (field, content) in fields(message) {
        let Content::Number(number) = content else { panic!("samples are numbers") };
        match field {
            1 => sample.0 = f64::from_bits(number),
            2 => sample.1 = number as i64,
            3 => start = number as i64,
            _ => panic!("field {field} of a sample"),
        }
    }
    (sample, start)
}

/// A series as a line.
pub(crate) fn show(series: &Series) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let labels: Vec<_> =
        series.labels.iter().map(|(name, value)| format!("{}={:?}", text(name), text(value))).collect();
    let since = |start: &i64| if *start == 0 { String::new() } else { format!(" since {start}") };
    let samples: Vec<_> = std::iter::zip(&series.samples, &series.starts)
        .map(|((value, time), start)| format!("{value}@{time}{}", since(start)))
        .collect();
    let histograms: Vec<_> =
        series.histograms.iter().map(|bytes| format!("{:02x?}", bytes).replace(", ", "")).collect();
    let kind = if series.kind == 0 { String::new() } else { format!(" type {}", series.kind) };
    format!("{{{}}} {}{kind}\n", labels.join(","), [samples, histograms].concat().join(" "))
}
