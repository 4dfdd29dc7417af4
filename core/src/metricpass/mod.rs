//! The `metricpass` filter: a CEL expression that says whether a metric passes.

mod check;
mod functions;
mod signatures;
mod types;

use std::collections::HashMap;

use cel::common::ast::IdedExpr;
use cel::common::types::{CelBool, CelDouble, CelInt, CelMap, CelMapKey, CelString, CelTimestamp, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Value};
use thiserror::Error;

use self::functions::{ENVIRONMENT, Pattern};
use self::types::Type;

/// An expression that is ready to be evaluated.
///
/// Its variables are `name`, `tags`, `fields` and `time`, its functions those of the CEL standard library, of the
/// extensions for strings, math and encoders, and `now()`. Types are checked as cel-go does: a bare `fields.x` is of
/// type `dyn`, which is not `bool`.
#[derive(Debug)]
pub struct MetricPass {
    expression: IdedExpr,
    reads_tags: bool,
    reads_fields: bool,
    patterns: Vec<Pattern>,
}

/// An expression that cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("invalid expression {source_text:?}: {problem} (column {column})")]
pub struct CompileError {
    /// The expression as written.
    pub source_text: String,
    /// Where the trouble is, in characters from 1; 0 if that is not known.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
}

/// An expression that has no value for a metric: a key is missing, or a value is of another type.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("cannot evaluate: {0}")]
pub struct EvaluationError(String);

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CelField<'a> {
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A floating point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text; invalid UTF-8 is replaced for the expression.
    Text(&'a [u8]),
}

impl MetricPass {
    /// Compiles an expression.
    ///
    /// Fails on wrong syntax, an unknown name, types that do not fit, a result of another type than `bool`, and a
    /// constant that cannot be converted or is no regular expression.
    pub fn compile(source: &str) -> Result<Self, CompileError> {
        let error =
            |problem: &str| CompileError { source_text: source.to_owned(), column: 0, problem: problem.to_owned() };
        if is_too_complex(source) {
            return Err(error("the expression is nested too deeply or too long"));
        }
        // The parser takes tens of kilobytes of stack for each level of nesting, more than a thread usually has.
        std::thread::scope(|scope| {
            let compiler = std::thread::Builder::new()
                .stack_size(COMPILER_STACK)
                .spawn_scoped(scope, || Self::compile_here(source))
                .map_err(|_| error("no thread could be started to compile it"))?;
            compiler.join().unwrap_or_else(|_| Err(error("the compiler gave up on it")))
        })
    }

    fn compile_here(source: &str) -> Result<Self, CompileError> {
        let error = |column: usize, problem: &str| CompileError {
            source_text: source.to_owned(),
            column,
            problem: one_line(problem),
        };
        let (mut expression, places) =
            ENVIRONMENT.parser().parse_with_source_info(source).map_err(|errors| match errors.errors.first() {
                Some(first) => error(usize::try_from(first.pos.1).unwrap_or(0), &first.msg),
                None => error(0, "the syntax is wrong"),
            })?;
        let (found, findings) = check::check(&mut expression).map_err(|problem| {
            let column = places.offset_for(problem.node).map_or(0, |(start, _)| start as usize + 1);
            error(column, &problem.text)
        })?;
        if found != Type::Bool {
            return Err(error(1, &format!("the result has to be of type bool but is of type {found}")));
        }
        Ok(Self {
            expression,
            reads_tags: findings.reads.contains("tags"),
            reads_fields: findings.reads.contains("fields"),
            patterns: findings.patterns,
        })
    }

    /// Whether a metric passes.
    ///
    /// `time` and `now` are nanoseconds since the epoch; tags and fields are only looked at if the expression does.
    /// Fails if the expression reads what the metric does not have, or values are of types that do not fit.
    pub fn evaluate<'a>(
        &self,
        name: &'a [u8],
        tags: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        fields: impl Iterator<Item = (&'a [u8], CelField<'a>)>,
        time: i64,
        now: i64,
    ) -> Result<bool, EvaluationError> {
        let metric = Metric {
            name: functions::string(name),
            tags: map(tags.take_while(|_| self.reads_tags), |value| Box::new(functions::string(value))),
            fields: map(fields.take_while(|_| self.reads_fields), CelField::into_value),
            time: functions::timestamp(time),
            now: functions::timestamp(now),
            patterns: &self.patterns,
        };
        let mut context = Context::with_env(ENVIRONMENT.clone());
        context.set_variable_resolver(&metric);
        let result = Value::resolve_val(&self.expression, &context)
            .map_err(|error| EvaluationError(one_line(&error.to_string())))?;
        let passes = result.downcast_ref::<CelBool>().map(|passes| *passes.inner());
        passes
            .ok_or_else(|| EvaluationError(format!("the result is of type {} and not bool", result.get_type().name())))
    }
}

impl<'a> CelField<'a> {
    fn into_value(self) -> Box<dyn Val + 'a> {
        match self {
            Self::Int(number) => Box::new(CelInt::from(number)),
            Self::Uint(number) => Box::new(CelUInt::from(number)),
            Self::Float(number) => Box::new(CelDouble::from(number)),
            Self::Bool(truth) => Box::new(CelBool::from(truth)),
            Self::Text(text) => Box::new(functions::string(text)),
        }
    }
}

fn map<'a, V>(entries: impl Iterator<Item = (&'a [u8], V)>, value_of: impl Fn(V) -> Box<dyn Val + 'a>) -> CelMap<'a> {
    let entries: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> =
        entries.map(|(key, value)| (CelMapKey::String(functions::string(key)), value_of(value))).collect();
    CelMap::from(entries)
}

/// What the variables of an expression stand for.
struct Metric<'a> {
    name: CelString<'a>,
    tags: CelMap<'a>,
    fields: CelMap<'a>,
    time: CelTimestamp,
    now: CelTimestamp,
    patterns: &'a [Pattern],
}

impl VariableResolver for Metric<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        Some(CowVal::Borrowed(match variable {
            "name" => &self.name,
            "tags" => &self.tags,
            "fields" => &self.fields,
            "time" => &self.time,
            check::NOW => &self.now,
            _ => {
                let index: usize = variable.strip_prefix(check::PATTERN)?.parse().ok()?;
                self.patterns.get(index)?
            }
        }))
    }
}

/// Bytes of stack for compiling; only what is used of it takes memory.
const COMPILER_STACK: usize = 64 << 20;

/// Brackets nested deeper, or more operators, could exhaust that stack.
const DEEPEST_BRACKETS: usize = 64;

/// See [`DEEPEST_BRACKETS`].
const MOST_OPERATORS: usize = 4096;

/// Whether compiling could exhaust the stack, by a rough look at the source outside of its string literals.
fn is_too_complex(source: &str) -> bool {
    let (mut depth, mut deepest, mut operators) = (0usize, 0, 0);
    let mut quote = None;
    let mut bytes = source.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (None, b'+' | b'-' | b'*' | b'/' | b'%' | b'?' | b'.' | b'!' | b'<' | b'>' | b'=') => operators += 1,
            (None, _) => {}
        }
    }
    deepest > DEEPEST_BRACKETS || operators > MOST_OPERATORS
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const TAGS: [(&[u8], &[u8]); 2] = [(b"core", b"0"), (b"host", b"a")];

    fn fields() -> Vec<(&'static [u8], CelField<'static>)> {
        vec![
            (b"usage", CelField::Float(91.5)),
            (b"n", CelField::Int(4)),
            (b"u", CelField::Uint(u64::MAX)),
            (b"ok", CelField::Bool(true)),
            (b"s", CelField::Text(b"warm")),
        ]
    }

    fn evaluate(source: &str) -> Result<bool, EvaluationError> {
        let pass = MetricPass::compile(source).unwrap_or_else(|error| panic!("{error}"));
        let time = 1_700_000_000_123_456_789;
        pass.evaluate(b"cpu", TAGS.into_iter(), fields().into_iter(), time, time + 86_400_000_000_000)
    }

    fn holds(sources: &[&str]) {
        for source in sources {
            assert_eq!(evaluate(source), Ok(true), "{source}");
        }
    }

    fn refused(source: &str, want: Expect) {
        let error = MetricPass::compile(source).expect_err(source);
        want.assert_eq(&format!("{}: {}", error.column, error.problem));
    }

    fn fails(source: &str, want: Expect) {
        want.assert_eq(&evaluate(source).expect_err(source).to_string());
    }

    #[test]
    fn variables() {
        holds(&[
            r#"name == "cpu""#,
            r#"tags.host == "a" && tags["core"] == '0'"#,
            r#""host" in tags && !("x" in tags)"#,
            "has(tags.host) && !has(tags.x) && has(fields.usage)",
            "size(tags) == 2 && fields.size() == 5",
            r#"!(name in ["mem", "disk"])"#,
            r#"tags == {"host": "a", "core": "0"} && {"host": "a", "core": "0"} == tags"#,
            "type(fields.usage) == double && type(fields.u) == uint && type(fields) == map && type(name) == string",
            "type(time) == google.protobuf.Timestamp && type(int) == type",
        ]);
    }

    #[test]
    fn dynamic_values() {
        holds(&[
            "fields.usage > 50 && fields.n >= 4.0 && fields.u > 5 && fields.u > fields.n",
            "fields.n == 4 && fields.n == 4u && fields.n == 4.0 && 4.0 == fields.n",
            "fields.s != 1 && !(fields.s == true)",
            "fields.n + 1 == 5 && fields.usage - 1.5 == 90.0 && -fields.n == -4 && fields.n % 3 == 1",
            "fields.ok == true && (fields.ok ? true : false) && !(!fields.ok)",
            "fields.ok || fields.missing",
            "fields.missing > 1 || fields.ok",
            "!(fields.missing > 1 && false)",
            "fields.n in [1, 2, 4] && fields.n in [4.0]",
            "[fields.n, 1.5, 'x'].size() == 3",
            "fields.s.startsWith('wa') && fields.s + 'er' == 'warmer'",
        ]);
    }

    #[test]
    fn macros() {
        holds(&[
            r#"tags.exists(k, k.startsWith("co")) && tags.all(k, tags[k] != "")"#,
            r#"tags.exists_one(k, tags[k] == "a") && fields.exists(k, fields[k] == 4)"#,
            "[1, 2, 3].map(x, x * 2) == [2, 4, 6] && [1, 2, 3].filter(x, x > 1).size() == 2",
            "[1, 2, 3].map(x, x > 1, x + 1) == [3, 4]",
            r#"tags.map(k, tags[k]).exists(v, v == "a")"#,
            "[[1], [2]].all(x, x.all(y, y > 0))",
            "fields.filter(k, type(fields[k]) == double).size() == 1",
            "fields.exists(k, fields[k] > 90.0)",
        ]);
    }

    #[test]
    fn strings() {
        holds(&[
            r#"name.contains("p") && name.endsWith("u") && name.matches("^[cd].*") && matches(name, "^c")"#,
            r#"name.matches("^" + "c")"#,
            r#"name.size() == 3 && size("é") == 1 && size(b"é") == 2"#,
            r#"name.upperAscii() == "CPU" && "ÀB".lowerAscii() == "Àb" && " x ".trim() == "x""#,
            r#"name.charAt(1) == "p" && name.indexOf("u") == 2 && name.lastIndexOf("c") == 0 && name.indexOf("z") == -1"#,
            r#"name.replace("c", "g") == "gpu" && "aaa".replace("a", "b", 2) == "bba""#,
            r#"name.split("").size() == 3 && "a,b,c".split(",", 2) == ["a", "b,c"] && ["a", "b"].join("-") == "a-b""#,
            r#"name.substring(1) == "pu" && name.substring(0, 2) == "cp" && name.reverse() == "upc""#,
            r#""%s has %d".format([name, 3]) == "cpu has 3" && strings.quote("a") == "\"a\"""#,
            r#"base64.encode(b"x") == "eA==" && base64.decode("eA==") == b"x""#,
            r#"'a' < 'b' && "a" + 'b' == "ab" && r'\d' == "\\d""#,
            r#""""x
y""" == "x\ny""#,
        ]);
    }

    #[test]
    fn times() {
        holds(&[
            r#"time < timestamp("2024-01-01T00:00:00Z") && time > timestamp(0)"#,
            "time.getFullYear() == 2023 && time.getMonth() == 10 && time.getDate() == 14 && time.getDayOfMonth() == 13",
            "time.getDayOfWeek() == 2 && time.getDayOfYear() == 317 && time.getHours() == 22",
            "time.getMinutes() == 13 && time.getSeconds() == 20 && time.getMilliseconds() == 123",
            r#"time.getDayOfWeek("Asia/Tokyo") == 3 && time.getHours("Asia/Tokyo") == 7 && time.getHours("-05:00") == 17"#,
            r#"time.getDate("Europe/Berlin") == 14 && time.getFullYear("UTC") == 2023"#,
            r#"now() - time == duration("24h") && now() > time && now() - time > duration("23h59m")"#,
            r#"time + duration("1h") > time && duration("1h") + time - duration("60m") == time"#,
            r#"duration("1h30m").getMinutes() == 90 && duration("90s").getSeconds() == 90 && duration("1.5s").getMilliseconds() == 1500"#,
            r#"int(time) == 1700000000 && int(duration("1s")) == 1000000000"#,
            r#"string(timestamp("2023-11-14T22:13:20.5Z")) == "2023-11-14T22:13:20.5Z" && string(duration("90m")) == "5400s""#,
            r#"timestamp("2023-11-14T23:13:20+01:00") == timestamp(1700000000)"#,
            r#"timestamp("9999-12-31T23:59:59Z").getFullYear() == 9999"#,
            r#"duration("-1.5h") == duration("-90m") && duration("1µs") == duration("1000ns")"#,
        ]);
    }

    #[test]
    fn conversions() {
        holds(&[
            r#"int("-5") == -5 && int(2.9) == 2 && int(-2.9) == -2 && int(5u) == 5"#,
            r#"uint("5") == 5u && uint(5) == 5u && uint(2.5) == 2u"#,
            r#"double("1e3") == 1000.0 && double(3) == 3.0 && double("inf") > 1.0"#,
            r#"string(5) == "5" && string(1.5) == "1.5" && string(1000000.0) == "1e+06" && string(true) == "true""#,
            r#"string(b"abc") == "abc" && bytes("abc") == b"abc" && string(5u) == "5""#,
            r#"bool("T") && bool("true") && !bool("0")"#,
            "int(fields.n) == 4 && double(fields.n) == 4.0 && string(fields.n) == '4' && uint(fields.n) == 4u",
            "dyn(1) == 1.0 && type(dyn(1)) == int",
        ]);
    }

    #[test]
    fn arithmetic() {
        holds(&[
            "1 + 2 * 3 - 4 / 2 == 5 && 7 % 3 == 1 && -(-1) == 1",
            "1.5 + 0.5 == 2.0 && 3u - 1u == 2u && 0x10 == 16",
            "math.greatest(1, 2, 3) == 3 && math.least(1.5, 0.5) == 0.5 && math.greatest([1, 5]) == 5",
            "math.greatest(fields.usage, 1.0) > 90.0",
            "math.abs(-1) == 1 && math.ceil(1.2) == 2.0 && math.floor(1.8) == 1.0 && math.round(1.5) == 2.0",
            "math.trunc(-1.5) == -1.0 && math.sign(-3) == -1 && math.isNaN(0.0 / 0.0) && math.isInf(1.0 / 0.0)",
            "math.bitAnd(6, 3) == 2 && math.bitOr(6, 1) == 7 && math.bitXor(6, 3) == 5 && math.bitNot(0) == -1",
            "math.bitShiftLeft(1, 3) == 8 && math.bitShiftRight(8, 3) == 1 && math.sqrt(4) == 2.0",
            "[1] + [2] == [1, 2] && {1: 'a'}[1] == 'a' && [1, 2][1] == 2",
            "true ? 1 < 2 : false",
        ]);
    }

    #[test]
    fn evaluation_errors() {
        fails("tags.region == 'x'", expect!["cannot evaluate: No such key: region"]);
        fails(
            "fields.s > 1",
            expect!["cannot evaluate: found no matching overload for '_>_' applied to '(string, int)'"],
        );
        fails(
            "fields.n + 1.0 > 1.0",
            expect![[r#"cannot evaluate: Unsupported binary operator 'add': Int(4), Float(1.0)"#]],
        );
        fails("fields.n / 0 == 1", expect!["cannot evaluate: Division by zero of Int(4)"]);
        fails("fields.missing > 1 || false", expect!["cannot evaluate: No such key: missing"]);
        fails(
            "fields.s && true",
            expect!["cannot evaluate: found no matching overload for '_&&_' applied to '(string, bool)'"],
        );
        fails(
            "int(fields.s) == 1",
            expect![
                "cannot evaluate: Error executing function 'int': string parse error: invalid digit found in string"
            ],
        );
        fails(
            "duration(fields.s) > duration('1s')",
            expect![[r#"cannot evaluate: Error executing function 'duration': cannot convert "warm" to duration"#]],
        );
        fails(
            "time.getHours('Mars/Base') == 1",
            expect!["cannot evaluate: Error executing function 'timezone': unknown time zone Mars/Base"],
        );
        fails(
            "name.charAt(9) == ''",
            expect!["cannot evaluate: Error executing function 'charAt': index out of range: 9"],
        );
    }

    #[test]
    fn refusals() {
        refused("fields.x", expect!["1: the result has to be of type bool but is of type dyn"]);
        refused("name", expect!["1: the result has to be of type bool but is of type string"]);
        refused("true ? fields.x : true", expect!["1: the result has to be of type bool but is of type dyn"]);
        refused("name == 1", expect!["6: found no matching overload for `_==_` applied to (string, int)"]);
        refused("1 < 2.0", expect!["3: found no matching overload for `_<_` applied to (int, double)"]);
        refused("1 + 1.0 == 2.0", expect!["3: found no matching overload for `_+_` applied to (int, double)"]);
        refused("nmae == 'x'", expect!["1: undeclared reference to `nmae`"]);
        refused("name.foo()", expect!["9: undeclared reference to function `foo`"]);
        refused("foo(name)", expect!["4: undeclared reference to function `foo`"]);
        refused("name.host == 'x'", expect!["1: a value of type string has no field `host`"]);
        refused(
            "name.startsWith(1)",
            expect!["16: found no matching overload for `startsWith` applied to (string, int)"],
        );
        refused("name.exists(x, true)", expect!["1: a value of type string has no elements to go through"]);
        refused(
            "tags.exists(k, true) && 1",
            expect!["22: found no matching overload for `_&&_` applied to (bool, int)"],
        );
        refused("[1].all(x, x + 1)", expect!["8: found no matching overload for `_&&_` applied to (bool, int)"]);
        refused("name.matches('[')", expect![[r#"13: invalid regular expression "[": unclosed character class"#]]);
        refused(
            "time > timestamp('today')",
            expect![[r#"17: Error executing function 'timestamp': cannot convert "today" to timestamp"#]],
        );
        refused(
            "duration('1hour') > duration('1s')",
            expect![[r#"9: Error executing function 'duration': cannot convert "1hour" to duration"#]],
        );
        refused("optional.none().hasValue()", expect!["1: undeclared reference to `optional`"]);
        refused("tags.?host == 'a'", expect!["5: unsupported syntax '.?'"]);
        refused(
            "google.protobuf.Duration{seconds: 1} > duration('1s')",
            expect!["25: messages like `google.protobuf.Duration` are not supported"],
        );
        assert!(MetricPass::compile("name ==").is_err());
        assert!(MetricPass::compile("").is_err());
        assert!(MetricPass::compile("name = 'x'").is_err());
        assert!(MetricPass::compile("has(name)").is_err());
        assert!(MetricPass::compile("@now > time").is_err());
        let deep = |open: &str, close: &str, count: usize| {
            MetricPass::compile(&format!("{}true{}", open.repeat(count), close.repeat(count)))
        };
        for (open, close) in [("(", ")"), ("!", ""), ("[", "][0]"), ("true ? true : ", ""), ("true && (", ")")] {
            assert!(deep(open, close, 15).is_ok(), "{open}");
            assert!(deep(open, close, 10_000).is_err(), "{open}");
        }
        holds(&[&format!("{} == 36", vec!["1"; 36].join(" + "))]);
        assert!(MetricPass::compile(&vec!["name == 'x'"; 200].join(" || ")).is_ok());
    }

    #[test]
    fn texts_that_are_no_utf8() {
        let pass = MetricPass::compile(r"name == 'a\uFFFD' && tags['k'] == '\uFFFD'").unwrap();
        let tags: [(&[u8], &[u8]); 1] = [(b"k", b"\xff")];
        assert_eq!(pass.evaluate(b"a\xff", tags.into_iter(), [].into_iter(), 0, 0), Ok(true));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn no_source_panics(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "name", "tags", "fields", "time", "now()", "x", "1", "1u", "1.5", "'a'", "b'a'", "null", "true", ".host",
                "[", "]", "(", ")", "{", "}", ",", ":", "?", "==", "<", "+", "-", "*", "/", "%", "in", "&&", "||", "!",
                ".size()", ".all(x, ", ".map(x, ", "duration(", "timestamp(", "int(", "string(", "type(", ".matches(",
                "math.greatest(", ".getHours(", ".format(", ".split(",
            ]), 0..12)
        ) {
            if let Ok(pass) = MetricPass::compile(&words.join(" ")) {
                let _ = pass.evaluate(b"cpu", TAGS.into_iter(), fields().into_iter(), i64::MIN, i64::MAX);
            }
        }
    }
}
