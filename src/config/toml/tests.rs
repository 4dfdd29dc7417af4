//! Tests of the dialect: what is read, what is refused, and where.

use std::sync::Arc;

use expect_test::{Expect, expect};
use heliograph_core::config::tree::{Node, SourceFile, Table, Value};
use proptest::prelude::*;

use super::parse;

/// The tree in a notation close to JSON.
fn show(table: &Table) -> String {
    let pairs: Vec<String> = table.iter().map(|(key, entry)| format!("{key}: {}", show_node(&entry.node))).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn show_node(node: &Node) -> String {
    match &node.value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Boolean(value) => value.to_string(),
        Value::Datetime(text) => format!("@{text}"),
        Value::Table(table) => show(table),
        Value::Array(array) => {
            let items: Vec<String> = array.items.iter().map(show_node).collect();
            format!("{}[{}]", if array.headers { "*" } else { "" }, items.join(", "))
        }
    }
}

fn read(text: &str) -> String {
    match parse(&Arc::new(SourceFile::new("t", text))) {
        Ok(table) => show(&table),
        Err(error) => format!("error: {}", error.line()),
    }
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&read(text));
}

fn same(text: &str, expected: &str) {
    assert_eq!(read(text), expected, "{text}");
}

fn refused(text: &str) {
    let found = read(text);
    assert!(found.starts_with("error"), "{text} is {found}");
}

#[test]
fn keys_and_headers() {
    same("a-b_1 = 1\n\"q.k\" = 2\n", "{a-b_1: 1, q.k: 2}");
    same("[ a . \"b.c\" ]\nx = 1", "{a: {b.c: {x: 1}}}");
    same("[[ a ]]\nx = 1\n[[a]]\n[a.b]\ny = 2", "{a: *[{x: 1}, {b: {y: 2}}]}");
    same("[a.b]\n[a]\nx = 1", "{a: {b: {}, x: 1}}");
    same("\"with\\\"quote\" = 1", "{with\"quote: 1}");
    for text in ["[ [a] ]", "a.b = 1", "é = 1", "[a", "[[a]", "[]", "[a.]", "= 1", "a 1", "a =", "a = \n1"] {
        refused(text);
    }
}

#[test]
fn liberties_of_the_dialect() {
    same("[a] b = 1", "{a: {b: 1}}");
    same("[a]b=1", "{a: {b: 1}}");
    same("[a]\nb = 1 c = 2", "{a: {b: 1, c: 2}}");
    same("[a]\nb=[1]c=\"x\"d=truee=1", "{a: {b: [1], c: \"x\", d: true, e: 1}}");
    same("a = {x=1,}", "{a: {x: 1}}");
    same("a = {x=\"1\"y=\"2\"}", "{a: {x: \"1\", y: \"2\"}}");
    same("a = {x=[\n1,\n]}", "{a: {x: [1]}}");
    same("x=[{t={a=1}}]", "{x: [{t: {a: 1}}]}");
    same("[p]\nt={a=1}\nt={b=2}", "{p: {t: {a: 1, b: 2}}}");
    same("[p]\nt={a=1}\n[p.t]\nb=2", "{p: {t: {a: 1, b: 2}}}");
    same("x=[{a=1}]\n[[x]]\na=2", "{x: [{a: 1}, {a: 2}]}");
    same("[p]\nx=[{a=1}]\n[p.x.y]\nb=2", "{p: {x: [{a: 1, y: {b: 2}}]}}");
    for text in ["a = 1 b = 2", "[a] b = 1 [c]", "a = {x=1\n}", "a = {\nx=1}", "a = {,x=1}"] {
        refused(text);
    }
}

#[test]
fn what_is_defined_twice() {
    check("[a]\n[a]", expect![[r#"error: t:2:1: table "a" is defined twice, first in line 1"#]]);
    check("[a]\n[[a]]", expect![[r#"error: t:2:1: "a" is a table in line 1 already, not a list of tables"#]]);
    check("[a.b]\n[[a]]", expect![[r#"error: t:2:1: "a" is a table in line 1 already, not a list of tables"#]]);
    check("[[a]]\n[a]", expect![[r#"error: t:2:1: table "a" is a list of tables in line 1 already"#]]);
    check("a = 1\n\na = 2", expect![[r#"error: t:3:1: key "a" is set twice, first in line 1"#]]);
    check("a = {b=1,b=2}", expect![[r#"error: t:1:10: key "b" is set twice, first in line 1"#]]);
    check("a = {b=1}\na = {b=2}", expect![[r#"error: t:2:6: key "b" is set twice, first in line 1"#]]);
    check("a = 1\n[a]", expect![[r#"error: t:2:1: table "a" is an integer in line 1 already"#]]);
    check("a = 1\n[a.b]", expect![[r#"error: t:2:2: "a" is not a table, it was set to a value in line 1"#]]);
    check("[a.b]\n[a]\nb = 1", expect![[r#"error: t:3:1: key "b" is set twice, first in line 1"#]]);
    check("a = [1]\n[[a]]", expect![[r#"error: t:2:1: "a" is a list in line 1 already, not a list of tables"#]]);
}

#[test]
fn numbers() {
    same("a=42\nb=+17\nc=-9\nd=1_000\ne=0\nf=-0", "{a: 42, b: 17, c: -9, d: 1000, e: 0, f: 0}");
    same("a=18446744073709551615\nb=-9223372036854775808", "{a: 18446744073709551615, b: -9223372036854775808}");
    same("a=3.25\nb=6.02e23\nc=5e-3\nd=1E+2\ne=1_0.2_5", "{a: 3.25, b: 6.02e23, c: 0.005, d: 100.0, e: 10.25}");
    same("a = 1979-05-27", "{a: @1979-05-27}");
    same("a = 1979-05-27T07:32:00.5-07:00", "{a: @1979-05-27T07:32:00.5-07:00}");
    same("a = 1979-05-27T07:32:00Z\nb = 07:32:00.25", "{a: @1979-05-27T07:32:00Z, b: @07:32:00.25}");
    for value in [
        "01",
        "0x1F",
        "0b1",
        "0o7",
        "1.",
        ".5",
        "1_",
        "1__0",
        "_1",
        "inf",
        "nan",
        "+inf",
        "True",
        "yes",
        "1e",
        "--1",
        "18446744073709551616",
        "-9223372036854775809",
        "1e999",
        "1979-05-27 07:32:00",
    ] {
        refused(&format!("a = {value}"));
    }
}

#[test]
fn strings() {
    same(r#"a = "\b\t\n\f\r\"\\\u00e9\U0001F600""#, r#"{a: "\u{8}\t\n\u{c}\r\"\\é😀"}"#);
    same("a = \"\t\"", "{a: \"\\t\"}");
    same(r"a = 'C:\p\n'", r#"{a: "C:\\p\\n"}"#);
    same("a = \"\"\nb = ''", "{a: \"\", b: \"\"}");
    same("a = \"\"\"\"\"\"\nb = ''''''", "{a: \"\", b: \"\"}");
    same("a = \"\"\"\n\n\nx\ny\"\"\"", "{a: \"x\\ny\"}");
    same("a = \"\"\"\r\n\r\nx\r\ny\"\"\"", "{a: \"x\\r\\ny\"}");
    same("a = '''\n\nraw \\n\n'''", "{a: \"raw \\\\n\\n\"}");
    same("a = \"\"\"x \\\n\n   y \\  \n z\"\"\"", "{a: \"x y z\"}");
    same("a = \"\"\"one \" two \"\" \\\"\"\"\"", "{a: \"one \\\" two \\\"\\\" \\\"\"}");
    same("a = '''it's'''", "{a: \"it's\"}");
    check(
        "a = \"C:\\Program\"",
        expect![[r#"error: t:1:8: unknown escape "\P": write "\\" for a backslash, or use single quotes"#]],
    );
    for value in ["\"x", "'x", "\"x\ny\"", "\"\"\"x", "'''x", r#""\u12""#, r#""\ud800""#, r#""\UFFFFFFFF""#, "\"\\"] {
        refused(&format!("a = {value}"));
    }
}

#[test]
fn lists() {
    same("a = [1, 2,]\nb = [ ]\nc = [\n\"x\"\n,\n \"y\" ,\n\n]", "{a: [1, 2], b: [], c: [\"x\", \"y\"]}");
    same("a = [[1], [\"x\"]]\nb = [{}]", "{a: [[1], [\"x\"]], b: [{}]}");
    same("a = [1, \"x\"]", "{a: [1, \"x\"]}");
    same("a = [ # one\n1, # two\n# three\n]", "{a: [1]}");
    for text in ["a = [1 2]", "a = [1", "a = [,]", "a = [1,,2]"] {
        refused(text);
    }
}

#[test]
fn line_ends() {
    same("a = 1\r\nb = 2\rc = 3\n\n\rd = 4", "{a: 1, b: 2, c: 3, d: 4}");
    same("", "{}");
    same("\n  \t\n", "{}");
    same("   [a]   \n\t b=1   ", "{a: {b: 1}}");
}

#[test]
fn a_bare_variable_gets_advice() {
    check(
        "port = ${PORT}",
        expect![[
            r#"error: t:1:8: expected a value, found "$": a variable needs quotes ("${NAME}"), or the option --non-strict-env-handling for numbers and booleans"#
        ]],
    );
}

#[test]
fn deep_nesting_is_refused() {
    refused(&format!("a = {}", "[".repeat(100_000)));
    refused(&format!("a = {}", "{a=".repeat(100_000)));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}a-c.=\"'\\\\#,\n\r 0-9tT:_+-]{0,60}|\\PC{0,40}") {
        read(&text);
    }

    #[test]
    fn strings_keep_their_text(text in any::<String>()) {
        let escaped: String = text.chars().map(|c| format!("\\U{:08X}", c as u32)).collect();
        prop_assert_eq!(read(&format!("a = \"{escaped}\"")), format!("{{a: {text:?}}}"));
    }

    #[test]
    fn integers_keep_their_value(value in any::<i64>()) {
        prop_assert_eq!(read(&format!("a = {value}")), format!("{{a: {value}}}"));
    }
}
