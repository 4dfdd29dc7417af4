//! Reads a body of Prometheus remote-write back, with no code in common with the agent's.

use serde_json::{Value, json};

/// The series of a compressed body, sorted, each with its labels and its samples as `[value, milliseconds]`.
pub fn series(body: &[u8]) -> Result<Value, String> {
    let body = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    for (number, field) in fields(&body)? {
        if number == 1 {
            all.push(one_series(field.bytes()?)?);
        }
    }
    all.sort_by_cached_key(Value::to_string);
    Ok(json!(all))
}

/// The same of version 2.0; with the type, and the time at which the series was created, which is never sent.
pub fn series_of_two(body: &[u8]) -> Result<Value, String> {
    let body = snap::raw::Decoder::new().decompress_vec(body).map_err(|error| error.to_string())?;
    let fields = fields(&body)?;
    let mut symbols = Vec::new();
    for (_, field) in fields.iter().filter(|(number, _)| *number == 4) {
        symbols.push(String::from_utf8(field.bytes()?.to_vec()).map_err(|error| error.to_string())?);
    }
    let mut all = Vec::new();
    for (_, field) in fields.iter().filter(|(number, _)| *number == 5) {
        all.push(one_series_of_two(field.bytes()?, &symbols)?);
    }
    all.sort_by_cached_key(Value::to_string);
    Ok(json!(all))
}

fn one_series_of_two(bytes: &[u8], symbols: &[String]) -> Result<Value, String> {
    let (mut texts, mut samples, mut metadata) = (Vec::new(), Vec::new(), json!({}));
    for (number, field) in fields(bytes)? {
        match number {
            1 => {
                let mut rest = field.bytes()?;
                while !rest.is_empty() {
                    texts.push(symbols.get(varint(&mut rest)? as usize).ok_or("no such symbol")?);
                }
            }
            2 => samples.push(sample(field.bytes()?)?),
            5 => {
                for (number, field) in self::fields(field.bytes()?)? {
                    let (1, Field::Varint(kind)) = (number, field) else {
                        return Err("metadata has more than a type".into());
                    };
                    metadata = json!({"type": kind, "help": "", "unit": ""});
                }
            }
            _ => return Err(format!("unexpected field {number} of a series")),
        }
    }
    let labels: Vec<_> = texts.chunks(2).map(|pair| json!(pair)).collect();
    Ok(json!({"labels": labels, "samples": samples, "metadata": metadata, "created": 0}))
}

fn one_series(bytes: &[u8]) -> Result<Value, String> {
    let (mut labels, mut samples) = (Vec::new(), Vec::new());
    for (number, field) in fields(bytes)? {
        match number {
            1 => {
                let mut label = [String::new(), String::new()];
                for (number, field) in fields(field.bytes()?)? {
                    *label.get_mut(number as usize - 1).ok_or("unknown field of a label")? =
                        String::from_utf8(field.bytes()?.to_vec()).map_err(|error| error.to_string())?;
                }
                labels.push(json!(label));
            }
            2 => samples.push(sample(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(json!({"labels": labels, "samples": samples}))
}

fn sample(bytes: &[u8]) -> Result<Value, String> {
    let (mut value, mut time) = (0.0, 0);
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Fixed64(bits)) => value = f64::from_bits(bits),
            (2, Field::Varint(millis)) => time = millis.cast_signed(),
            (number, _) => return Err(format!("unexpected field {number} of a sample")),
        }
    }
    // As text, which knows infinity too.
    Ok(json!([format!("{value:?}"), time]))
}

/// A field of a message.
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> Result<&'a [u8], String> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            _ => Err("a number where a message is expected".into()),
        }
    }
}

/// The fields of a message with their numbers.
fn fields(mut rest: &[u8]) -> Result<Vec<(u64, Field<'_>)>, String> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut rest)?),
            1 => {
                let (bits, after) = rest.split_first_chunk().ok_or("cut off in a number")?;
                rest = after;
                Field::Fixed64(u64::from_le_bytes(*bits))
            }
            2 => {
                let length = varint(&mut rest)? as usize;
                let (bytes, after) = rest.split_at_checked(length).ok_or("cut off in a message")?;
                rest = after;
                Field::Bytes(bytes)
            }
            other => return Err(format!("unexpected wire type {other}")),
        };
        found.push((key >> 3, field));
    }
    Ok(found)
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or("cut off in a number")?;
        *rest = after;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err("a number of more than 64 bits".into())
}
