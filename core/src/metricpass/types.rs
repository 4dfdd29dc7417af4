//! Static types of CEL expressions, and which may stand for which.

use std::fmt;
use std::slice::from_ref;

/// A type of the CEL type system.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    /// Known at evaluation only.
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Null,
    Timestamp,
    Duration,
    /// That of types themselves.
    OfTypes,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// A type to be found out.
    Variable(usize),
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Dyn | Self::Variable(_) => "dyn",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
            Self::OfTypes => "type",
            Self::List(element) => return write!(out, "list({element})"),
            Self::Map(key, value) => return write!(out, "map({key}, {value})"),
        })
    }
}

/// What is known of type variables.
#[derive(Clone, Debug, Default)]
pub(super) struct Variables(Vec<Option<Type>>);

impl Variables {
    /// A variable of which nothing is known.
    pub(super) fn fresh(&mut self) -> Type {
        self.0.push(None);
        Type::Variable(self.0.len() - 1)
    }

    /// A type with all that is known of its variables put in; with `free_to_dyn`, the others become `dyn`.
    pub(super) fn resolve(&self, of: &Type, free_to_dyn: bool) -> Type {
        match of {
            Type::Variable(index) => match &self.0[*index] {
                Some(known) => self.resolve(known, free_to_dyn),
                None if free_to_dyn => Type::Dyn,
                None => of.clone(),
            },
            Type::List(element) => Type::List(Box::new(self.resolve(element, free_to_dyn))),
            Type::Map(key, value) => {
                Type::Map(Box::new(self.resolve(key, free_to_dyn)), Box::new(self.resolve(value, free_to_dyn)))
            }
            other => other.clone(),
        }
    }

    /// Whether values of the one types may stand for values of the others; learns of variables if so.
    pub(super) fn accept_all(&mut self, given: &[Type], wanted: &[Type]) -> bool {
        let mut learned = self.clone();
        let accepted = given.len() == wanted.len()
            && given.iter().zip(wanted).all(|(given, wanted)| learned.accept(given, wanted));
        if accepted {
            *self = learned;
        }
        accepted
    }

    /// As [`accept_all`](Self::accept_all), of one type; may learn although it says no.
    pub(super) fn accept(&mut self, given: &Type, wanted: &Type) -> bool {
        if let Type::Variable(index) = wanted {
            return self.substitute(given, *index);
        }
        if let Type::Variable(index) = given {
            return self.substitute(wanted, *index);
        }
        match (given, wanted) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Null, Type::Timestamp | Type::Duration) | (Type::Timestamp | Type::Duration, Type::Null) => true,
            (Type::List(given), Type::List(wanted)) => self.accept(given, wanted),
            (Type::Map(given_key, given), Type::Map(wanted_key, wanted)) => {
                self.accept(given_key, wanted_key) && self.accept(given, wanted)
            }
            _ => given == wanted,
        }
    }

    /// Whether a type may be put in for a variable, which then stands for the more general of both.
    fn substitute(&mut self, given: &Type, index: usize) -> bool {
        if *given == Type::Variable(index) {
            return true;
        }
        let general = match self.0[index].clone() {
            Some(known) if self.accept(given, &known) => most_general(given.clone(), known),
            Some(_) => return false,
            None => given.clone(),
        };
        // A type that holds its own variable would never end.
        if self.mentions(&general, index) {
            return self.0[index].is_some();
        }
        self.0[index] = Some(general);
        true
    }

    fn mentions(&self, of: &Type, index: usize) -> bool {
        match of {
            Type::Variable(other) => {
                *other == index || self.0[*other].as_ref().is_some_and(|known| self.mentions(known, index))
            }
            Type::List(element) => self.mentions(element, index),
            Type::Map(key, value) => self.mentions(key, index) || self.mentions(value, index),
            _ => false,
        }
    }

    /// The type of an element beside others of a literal: `dyn` if they do not fit.
    pub(super) fn join(&mut self, known: Option<Type>, next: Type) -> Type {
        match known {
            None => next,
            Some(known) if self.accept_all(from_ref(&known), from_ref(&next)) => most_general(known, next),
            Some(_) => Type::Dyn,
        }
    }
}

fn most_general(one: Type, other: Type) -> Type {
    if is_less_specific(&one, &other) { one } else { other }
}

fn is_less_specific(one: &Type, other: &Type) -> bool {
    match (one, other) {
        (Type::Dyn | Type::Variable(_), _) => true,
        (_, Type::Dyn | Type::Variable(_)) => false,
        (Type::List(one), Type::List(other)) => is_less_specific(one, other),
        (Type::Map(one_key, one), Type::Map(other_key, other)) => {
            is_less_specific(one_key, other_key) && is_less_specific(one, other)
        }
        _ => one == other,
    }
}
