//! The few forms of protobuf that remote-write needs, appended to a buffer.

/// Appends a variable-length integer.
#[inline]
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`varint`] takes.
#[inline]
pub(super) fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// Small numbers of either sign become small numbers.
pub(super) fn zigzag(value: i32) -> u64 {
    u64::from((value << 1 ^ value >> 31) as u32)
}

/// The key of a field of a message: its number and how its value is written.
pub(super) const fn tag(field: u8, form: Form) -> u8 {
    field << 3 | form as u8
}

/// How a value is written.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
}

/// Appends a field of bytes, unless it is empty.
pub(super) fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        out.push(tag(field, Form::Length));
        varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

/// Appends a float, also a zero.
pub(super) fn double(out: &mut Vec<u8>, field: u8, value: f64) {
    out.push(tag(field, Form::Fixed64));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends an integer, unless it is zero.
pub(super) fn integer(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(tag(field, Form::Varint));
        varint(out, value);
    }
}

/// The next field of bytes, which holds bytes itself: its number and content.
pub(super) fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&key, mut rest) = bytes.split_first()?;
    let (mut len, mut shift) = (0usize, 0);
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let (content, after) = rest.split_at_checked(len)?;
    *bytes = after;
    Some((key >> 3, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_integers() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(varint_len(value), out.len(), "{value}");
        }
        assert_eq!([0, -1, 1, -2, i32::MIN].map(zigzag), [0, 1, 2, 3, u64::from(u32::MAX)]);
    }
}
