//! A JSON document as a tree: read as Go's decoder does, written as its encoder does.

use std::collections::BTreeMap;

use heliograph_core::number::write_json_f64;

use super::text::write_string;

/// A JSON value; all numbers are floats, keys are sorted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(f64),
    Text(Vec<u8>),
    Array(Vec<Node>),
    Object(BTreeMap<Vec<u8>, Node>),
}

/// Deepest nesting that is read; what is deeper stays text. It keeps a hostile text from exhausting the stack.
const MOST_LEVELS: usize = 512;

impl Node {
    /// Reads a text that is one document, with blanks around it; `None` if it is none.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        let node = reader.value(MOST_LEVELS)?;
        reader.blanks();
        (reader.at == text.len()).then_some(node)
    }

    /// Appends the document in one line; `number` writes the numbers.
    pub(super) fn write(&self, number: &impl Fn(f64, &mut Vec<u8>), out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
            Self::Number(value) => number(*value, out),
            Self::Text(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    item.write(number, out);
                }
                out.push(b']');
            }
            Self::Object(entries) => {
                out.push(b'{');
                for (i, (key, value)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write(number, out);
                }
                out.push(b'}');
            }
        }
    }

    /// Appends the document in one line, all numbers in their shortest form.
    pub(super) fn write_plain(&self, out: &mut Vec<u8>) {
        self.write(&|value, out: &mut Vec<u8>| write_json_f64(out, value), out);
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8], node: Node) -> Option<Node> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            node
        })
    }

    fn value(&mut self, levels: usize) -> Option<Node> {
        self.blanks();
        match self.peek()? {
            b'n' => self.word(b"null", Node::Null),
            b't' => self.word(b"true", Node::Bool(true)),
            b'f' => self.word(b"false", Node::Bool(false)),
            b'"' => self.string().map(Node::Text),
            b'[' => self.array(levels.checked_sub(1)?),
            b'{' => self.object(levels.checked_sub(1)?),
            _ => self.number(),
        }
    }

    fn array(&mut self, levels: usize) -> Option<Node> {
        self.at += 1;
        let mut items = Vec::new();
        self.blanks();
        if self.take(b']') {
            return Some(Node::Array(items));
        }
        loop {
            items.push(self.value(levels)?);
            self.blanks();
            if self.take(b']') {
                return Some(Node::Array(items));
            }
            self.take(b',').then_some(())?;
        }
    }

    fn object(&mut self, levels: usize) -> Option<Node> {
        self.at += 1;
        let mut entries = BTreeMap::new();
        self.blanks();
        if self.take(b'}') {
            return Some(Node::Object(entries));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.blanks();
            self.take(b':').then_some(())?;
            entries.insert(key, self.value(levels)?);
            self.blanks();
            if self.take(b'}') {
                return Some(Node::Object(entries));
            }
            self.take(b',').then_some(())?;
        }
    }

    /// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`, within the range of a float.
    fn number(&mut self) -> Option<Node> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let value: f64 = std::str::from_utf8(&self.text[start..self.at]).ok()?.parse().ok()?;
        value.is_finite().then_some(Node::Number(value))
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        self.take(b'"').then_some(())?;
        let mut out = Vec::new();
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(out),
                b'\\' => self.escape(&mut out)?,
                0..0x20 => return None,
                _ => out.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let byte = self.peek()?;
        self.at += 1;
        out.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.code_point()?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            _ => return None,
        });
        Some(())
    }

    /// The code point of `\uXXXX`, or of two that are a pair; half a pair is U+FFFD.
    fn code_point(&mut self) -> Option<char> {
        let unit = self.code_unit()?;
        let high = match unit {
            0xd800..0xdc00 => unit - 0xd800,
            _ => return Some(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)),
        };
        let behind = self.at;
        if self.take(b'\\') && self.take(b'u') {
            let low = self.code_unit()?;
            if (0xdc00..0xe000).contains(&low) {
                return char::from_u32(0x1_0000 + (high << 10) + (low - 0xdc00));
            }
        }
        self.at = behind;
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
        self.at += 4;
        let digits = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, want: &str) {
        let got = Node::read(text.as_bytes()).map_or("no document".to_owned(), |node| {
            let mut out = Vec::new();
            node.write_plain(&mut out);
            String::from_utf8(out).unwrap()
        });
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn documents() {
        check(r#" {"b":1,"a":[1,2.50,"x",null,true],"b":{"z":1e3}} "#, r#"{"a":[1,2.5,"x",null,true],"b":{"z":1000}}"#);
        check("12345678901234567890", "12345678901234567000");
        check("-0", "-0");
        check(r#""\ud83d\ude00\ud800\ud800A\u0041""#, "\"😀\u{fffd}\u{fffd}AA\"");
        check("[ ]", "[]");
        check("{ }", "{}");
    }

    #[test]
    fn no_documents() {
        for text in [
            "",
            "1 2",
            "01",
            "1.",
            "1e400",
            "{\"a\":1,}",
            "[1,]",
            "\"a\nb\"",
            "\"\\x\"",
            "nul",
            "{1:2}",
            "+1",
            "--1",
            "\"\\u+123\"",
        ] {
            check(text, "no document");
        }
        check(&"[".repeat(100_000), "no document");
    }

    proptest! {
        #[test]
        fn any_bytes_do_not_panic(text in prop::collection::vec(prop::sample::select(b"[]{}\":,\\u0d8e1.-tfn \xff".to_vec()), 0..40)) {
            Node::read(&text);
        }

        #[test]
        fn agrees_with_another_reader(text in r#"[\[\]{}",:a0-9eE.+ -]{0,12}"#) {
            let other = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(Node::read(text.as_bytes()).is_some(), other, "{}", text);
        }
    }
}
