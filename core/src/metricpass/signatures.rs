//! The functions and operators that an expression may call.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::types::{Type, Variables};

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Signature {
    arguments: Vec<Type>,
    result: Type,
}

/// All ways to call each function; the name of a member function has a dot in front, its receiver is the first argument.
static SIGNATURES: LazyLock<HashMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
    let mut signatures: HashMap<&str, Vec<Signature>> = HashMap::new();
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let (names, signature) = line.split_once(": ").expect("every line of the table has a colon");
        let (arguments, result) = signature.split_once("-> ").expect("every line of the table has an arrow");
        for name in names.split_whitespace() {
            signatures.entry(name).or_default().push(Signature {
                arguments: arguments.split_whitespace().map(read_type).collect(),
                result: read_type(result),
            });
        }
    }
    signatures
});

/// The standard library of CEL and its extensions for strings, math and encoders, as cel-go declares them.
///
/// `A` and `B` are any types, the same one wherever the letter stands.
const TABLE: &str = "
_&&_ _||_: bool bool -> bool
!_ @not_strictly_false: bool -> bool
_?_:_: bool A A -> A
_==_ _!=_: A A -> bool
_<_ _<=_ _>_ _>=_: bool bool -> bool
_<_ _<=_ _>_ _>=_: int int -> bool
_<_ _<=_ _>_ _>=_: uint uint -> bool
_<_ _<=_ _>_ _>=_: double double -> bool
_<_ _<=_ _>_ _>=_: string string -> bool
_<_ _<=_ _>_ _>=_: bytes bytes -> bool
_<_ _<=_ _>_ _>=_: timestamp timestamp -> bool
_<_ _<=_ _>_ _>=_: duration duration -> bool
_+_ _-_ _*_ _/_ _%_: int int -> int
_+_ _-_ _*_ _/_ _%_: uint uint -> uint
_+_ _-_ _*_ _/_: double double -> double
_+_: string string -> string
_+_: bytes bytes -> bytes
_+_: list(A) list(A) -> list(A)
_+_: timestamp duration -> timestamp
_+_: duration timestamp -> timestamp
_+_ _-_: duration duration -> duration
_-_: timestamp timestamp -> duration
_-_: timestamp duration -> timestamp
-_: int -> int
-_: double -> double
_[_]: list(A) int -> A
_[_]: map(A,B) A -> B
@in: A list(A) -> bool
@in: A map(A,B) -> bool

size .size: string -> int
size .size: bytes -> int
size .size: list(A) -> int
size .size: map(A,B) -> int
type: A -> type
dyn: A -> dyn
bool: bool -> bool
bool: string -> bool
bytes: bytes -> bytes
bytes: string -> bytes
double: double -> double
double: int -> double
double: string -> double
double: uint -> double
duration: duration -> duration
duration: int -> duration
duration: string -> duration
int: int -> int
int: double -> int
int: duration -> int
int: string -> int
int: timestamp -> int
int: uint -> int
string: string -> string
string: bool -> string
string: bytes -> string
string: double -> string
string: duration -> string
string: int -> string
string: timestamp -> string
string: uint -> string
timestamp: timestamp -> timestamp
timestamp: int -> timestamp
timestamp: string -> timestamp
uint: uint -> uint
uint: double -> uint
uint: int -> uint
uint: string -> uint
.contains .endsWith .startsWith .matches matches: string string -> bool
now: -> timestamp

.getFullYear .getMonth .getDayOfYear .getDayOfMonth .getDate .getDayOfWeek: timestamp -> int
.getFullYear .getMonth .getDayOfYear .getDayOfMonth .getDate .getDayOfWeek: timestamp string -> int
.getHours .getMinutes .getSeconds .getMilliseconds: timestamp -> int
.getHours .getMinutes .getSeconds .getMilliseconds: timestamp string -> int
.getHours .getMinutes .getSeconds .getMilliseconds: duration -> int

.charAt: string int -> string
.format: string list(dyn) -> string
.indexOf .lastIndexOf: string string -> int
.indexOf .lastIndexOf: string string int -> int
.join: list(string) -> string
.join: list(string) string -> string
.lowerAscii .upperAscii .trim .reverse: string -> string
.replace: string string string -> string
.replace: string string string int -> string
.split: string string -> list(string)
.split: string string int -> list(string)
.substring: string int -> string
.substring: string int int -> string
strings.quote: string -> string

base64.encode: bytes -> string
base64.decode: string -> bytes

math.@max math.@min: int -> int
math.@max math.@min: uint -> uint
math.@max math.@min: double -> double
math.@max math.@min: int int -> int
math.@max math.@min: uint uint -> uint
math.@max math.@min: double double -> double
math.@max math.@min: int uint -> dyn
math.@max math.@min: int double -> dyn
math.@max math.@min: uint int -> dyn
math.@max math.@min: uint double -> dyn
math.@max math.@min: double int -> dyn
math.@max math.@min: double uint -> dyn
math.@max math.@min: list(int) -> int
math.@max math.@min: list(uint) -> uint
math.@max math.@min: list(double) -> double
math.ceil math.floor math.round math.trunc: double -> double
math.isInf math.isNaN math.isFinite: double -> bool
math.abs math.sign: int -> int
math.abs math.sign: uint -> uint
math.abs math.sign: double -> double
math.bitAnd math.bitOr math.bitXor: int int -> int
math.bitAnd math.bitOr math.bitXor: uint uint -> uint
math.bitNot: int -> int
math.bitNot: uint -> uint
math.bitShiftLeft math.bitShiftRight: int int -> int
math.bitShiftLeft math.bitShiftRight: uint int -> uint
math.sqrt: int -> double
math.sqrt: uint -> double
math.sqrt: double -> double
";

/// The index of the variable that a letter of the table stands for, until a call gets variables of its own.
const LETTERS: [&str; 2] = ["A", "B"];

fn read_type(text: &str) -> Type {
    let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|text| text.strip_suffix(')'));
    if let Some(letter) = LETTERS.iter().position(|letter| *letter == text) {
        return Type::Variable(letter);
    }
    if let Some(element) = inner("list(") {
        return Type::List(Box::new(read_type(element)));
    }
    if let Some((key, value)) = inner("map(").and_then(|inner| inner.split_once(',')) {
        return Type::Map(Box::new(read_type(key)), Box::new(read_type(value)));
    }
    match text {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "type" => Type::OfTypes,
        "dyn" => Type::Dyn,
        _ => unreachable!("the table names no other type"),
    }
}

/// Whether a function of that name exists; that of a member function has a dot in front.
pub(super) fn is_known(name: &str) -> bool {
    SIGNATURES.contains_key(name)
}

/// The type of a call; nothing if no way to call the function fits the arguments.
///
/// If arguments of type `dyn` leave more than one result possible, that is `dyn` too.
pub(super) fn result_of(name: &str, arguments: &[Type], variables: &mut Variables) -> Option<Type> {
    let mut result: Option<Type> = None;
    for signature in SIGNATURES.get(name)? {
        let letters: Vec<Type> = LETTERS.iter().map(|_| variables.fresh()).collect();
        let wanted: Vec<Type> = signature.arguments.iter().map(|wanted| instantiate(wanted, &letters)).collect();
        if variables.accept_all(arguments, &wanted) {
            let next = variables.resolve(&instantiate(&signature.result, &letters), false);
            result = Some(match result {
                Some(result) if result != next => Type::Dyn,
                _ => next,
            });
        }
    }
    result
}

/// A type of the table with the letters replaced by the variables of a call.
fn instantiate(of: &Type, letters: &[Type]) -> Type {
    match of {
        Type::Variable(letter) => letters[*letter].clone(),
        Type::List(element) => Type::List(Box::new(instantiate(element, letters))),
        Type::Map(key, value) => Type::Map(Box::new(instantiate(key, letters)), Box::new(instantiate(value, letters))),
        other => other.clone(),
    }
}
