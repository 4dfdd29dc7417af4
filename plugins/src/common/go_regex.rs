//! Regular expressions in the syntax of Go, compiled by the `regex` crate.

/// Rewrites the few spellings inside `[…]` that Go's RE2 takes literally and the `regex` crate gives a meaning of its own:
/// a lone `[`, and the set operators `&&`, `--` and `~~`.
pub fn from_go(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    // How many items the class at hand has so far: a `]` in front of all others is literal.
    let mut class: Option<usize> = None;
    while let Some(c) = chars.next() {
        match (c, &mut class) {
            ('\\', _) => {
                out.push(c);
                let quoted = chars.next();
                out.extend(quoted);
                if let Some(items) = &mut class {
                    *items += 1;
                }
                if quoted == Some('Q') && class.is_none() {
                    // The `regex` crate has no `\Q…\E`; its contents are escaped one by one.
                    out.truncate(out.len() - 2);
                    quote_until_end(&mut chars, &mut out);
                }
            }
            ('[', None) => {
                out.push(c);
                if chars.peek() == Some(&'^') {
                    out.extend(chars.next());
                }
                class = Some(0);
            }
            ('[', Some(items)) if chars.peek() == Some(&':') => {
                // `[:alpha:]`, taken over up to its end.
                out.push(c);
                for inner in chars.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
                *items += 1;
            }
            (']', Some(items)) if *items > 0 => {
                out.push(c);
                class = None;
            }
            ('[' | ']' | '&' | '~', Some(items)) => {
                out.push('\\');
                out.push(c);
                *items += 1;
            }
            ('-', Some(items)) if chars.peek() == Some(&'-') => {
                // In front of the class the first one is an item, behind an item it makes a range up to the second.
                out.push_str(if *items == 0 { "\\-" } else { "-\\-" });
                if *items > 0 {
                    chars.next();
                }
                *items += 1;
            }
            (_, class) => {
                out.push(c);
                if let Some(items) = class {
                    *items += 1;
                }
            }
        }
    }
    out
}

fn quote_until_end(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            return;
        }
        out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, want: &str) {
        let got = from_go(pattern);
        assert_eq!(got, want);
        regex::Regex::new(&got).unwrap();
    }

    #[test]
    fn what_both_read_alike_stays() {
        check(r"[^a-zA-Z0-9-:._=\p{L}]", r"[^a-zA-Z0-9-:._=\p{L}]");
        check(r"^(a|b\[)+[[:alpha:]]$", r"^(a|b\[)+[[:alpha:]]$");
    }

    #[test]
    fn literals_of_a_class_are_quoted() {
        check("[[a]", r"[\[a]");
        check("[]a]", r"[\]a]");
        check("[^]&&~~]", r"[^\]\&\&\~\~]");
        check("[+--]", r"[+-\-]");
        check("[--9]", r"[\--9]");
        check(r"\Qa.b[\E+", r"a\.b\[+");
    }
}
