//! `json_query`: the part of a payload that is parsed.

use heliograph_core::error::BoxError;

/// A path in the language of GJSON.
#[derive(Debug)]
pub(super) struct Query(String);

/// Modifiers of the language that are not there.
const MISSING: [&str; 6] = ["@keys", "@values", "@tostr", "@fromstr", "@group", "@dig"];

impl Query {
    /// Takes a path; what cannot be done is refused here and not at each message.
    pub(super) fn new(path: &str) -> Result<Self, BoxError> {
        let refuse = |what: &str| Err(format!("option \"json_query\": {what} in {path:?} is not supported").into());
        if let Some(modifier) = MISSING.iter().find(|modifier| starts_component(path, modifier)) {
            return refuse(&format!("the modifier {modifier}"));
        }
        if starts_component(path, "!") {
            return refuse("a literal (`!`)");
        }
        if let Some(at) = path.find('~')
            && path[..at].trim_end().ends_with(['=', '<', '>', '%'])
        {
            return refuse("a comparison with `~`");
        }
        Ok(Self(modern_queries(path)))
    }

    /// Puts the result into `out`; `false` if there is none, or null.
    ///
    /// The payload is not checked: what the path does not need may be broken. Bytes that are no UTF-8 become U+FFFD, as
    /// the parser would make them.
    pub(super) fn run(&self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let text: String = payload
            .utf8_chunks()
            .flat_map(|chunk| {
                let replaced = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
                chunk.valid().chars().chain(replaced)
            })
            .collect();
        let result = gjson::get(&text, &self.0);
        out.extend_from_slice(result.json().as_bytes());
        result.exists() && result.kind() != gjson::Kind::Null
    }
}

/// Whether a component of the path, outside of queries, begins with `prefix`.
fn starts_component(path: &str, prefix: &str) -> bool {
    path.match_indices(prefix)
        .any(|(at, _)| matches!(path[..at].chars().next_back(), None | Some('.' | '|' | '{' | '[' | ',')))
}

/// Writes the old form of queries, `#[key==value]`, as the one that is read.
fn modern_queries(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find("#[") {
        let (before, query) = rest.split_at(at);
        let mut depth = 0;
        let end = query.char_indices().find_map(|(i, char)| {
            depth += i32::from(char == '[') - i32::from(char == ']');
            (char == ']' && depth == 0).then_some(i)
        });
        let Some(end) = end else { break };
        out.push_str(before);
        out.push_str("#(");
        out.push_str(&query[2..end]);
        out.push(')');
        rest = &query[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use bstr::ByteSlice;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, text: &str, want: &str) {
        let mut out = Vec::new();
        let found = Query::new(path).unwrap().run(text.as_bytes(), &mut out);
        assert_eq!(if found { out.to_str_lossy().into_owned() } else { "-".to_owned() }, want, "{path} of {text}");
    }

    #[test]
    fn the_language_is_that_of_gjson() {
        let list = r#"{"a":[{"x":1,"n":"p"},{"x":2,"n":"q"},{"x":1,"n":"p q"}],"f.g":{"h":[5,6]},"a":0}"#;
        check("a.1", list, r#"{"x":2,"n":"q"}"#);
        check("a.#", list, "3");
        check("a.#.x", list, "[1,2,1]");
        check("a.#.x|0", list, "1");
        check("a.#.y", list, "[]");
        check("a.#(x==1)", list, r#"{"x":1,"n":"p"}"#);
        check("a.#(x==1)#", list, r#"[{"x":1,"n":"p"},{"x":1,"n":"p q"}]"#);
        check("a.#[x==1]", list, r#"{"x":1,"n":"p"}"#);
        check("a.#(x>1).n", list, r#""q""#);
        check(r#"a.#(n=="p q").x"#, list, "1");
        check("a.#(n%\"p*\")#.x", list, "[1,1]");
        check("a.#(n!%\"p*\")#.x", list, "[2]");
        check("a.#(y==1)", list, "-");
        check("a.#(y==1)#", list, "[]");
        check(r"f\.g.h", list, "[5,6]");
        check("f*.h.1", list, "6");
        check("f?g.h.#", list, "2");
        check("@this.a.0.x", list, "1");
        check("f\\.g.h|@reverse", list, "[6,5]");

        check("h", r#"{"h":null}"#, "-");
        check("..#", "{\"v\":1}\n{\"v\":2}\n", "2");
        check("..1.v", "{\"v\":1}\n{\"v\":2}\n", "2");
        check("..#(v)#", "{\"v\":1}\n{\"w\":2}\n", "[{\"v\":1}]");
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let error = |path| Query::new(path).unwrap_err().to_string();
        assert_eq!(error("a|@keys"), "option \"json_query\": the modifier @keys in \"a|@keys\" is not supported");
        assert_eq!(
            error("a.#(b==~true)#"),
            "option \"json_query\": a comparison with `~` in \"a.#(b==~true)#\" is not supported"
        );
        assert_eq!(error("[!5,a]"), "option \"json_query\": a literal (`!`) in \"[!5,a]\" is not supported");
        assert!(Query::new("a.#(b!=5)").is_ok());
    }

    proptest! {
        #[test]
        fn no_payload_makes_it_panic(
            payload in r#"([\[\]{}:,"\\.a-cé 0-9\-]|"[abc]":|\{"a":|null|true|\\u00){0,12}"#,
            bytes in prop::collection::vec(any::<u8>(), 0..20),
            path in prop::sample::select(vec!["a", "a.b", "a.#.b", "#(a==1)#", "..#(a)#", "a.0|@reverse", "*.b", "{a,b}", "@flatten", "@pretty", "a.#(b.c>1)#.d", "@this|@ugly", "@join"]),
        ) {
            let query = Query::new(path).unwrap();
            let mut out = Vec::new();
            query.run(payload.as_bytes(), &mut out);
            query.run(&bytes, &mut out);
        }
    }
}
