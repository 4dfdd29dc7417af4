//! The static check of an expression, as cel-go does it, and what is prepared for evaluation on the way.

use std::collections::BTreeSet;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use cel::common::types::CelString;
use cel::{Context, Value};
use regex::Regex;

use super::functions::{ENVIRONMENT, Pattern, REPLACED};
use super::signatures;
use super::types::{Type, Variables};

/// The name of the variable that stands for a call of `now()`.
pub(super) const NOW: &str = "@now";

/// The names of the variables that stand for regular expressions begin so and end with their index.
pub(super) const PATTERN: &str = "@pattern";

/// Nodes nested deeper are refused, so that evaluation fits on the stack of any thread.
const DEEPEST: usize = 40;

/// What is wrong with an expression, and the node at which it was found.
pub(super) struct Problem {
    pub(super) node: u64,
    pub(super) text: String,
}

/// What the check found out besides the type.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Variables of the metric that the expression reads.
    pub(super) reads: BTreeSet<&'static str>,
    /// Regular expressions written in the source.
    pub(super) patterns: Vec<Pattern>,
}

/// Checks an expression and gives its type. Calls that ours replace are renamed in place.
pub(super) fn check(expression: &mut IdedExpr) -> Result<(Type, Findings), Problem> {
    let mut checker = Checker::default();
    let found = checker.expression(expression)?;
    Ok((checker.variables.resolve(&found, true), checker.findings))
}

#[derive(Default)]
struct Checker {
    variables: Variables,
    /// Names bound by macros around the present node, innermost last.
    scopes: Vec<(String, Type)>,
    /// How many nodes there are around the present one.
    depth: usize,
    findings: Findings,
}

impl Checker {
    fn expression(&mut self, node: &mut IdedExpr) -> Result<Type, Problem> {
        if self.depth == DEEPEST {
            return Err(Problem { node: node.id, text: "the expression is nested too deeply".to_owned() });
        }
        self.depth += 1;
        let found = self.node(node);
        self.depth -= 1;
        found
    }

    fn node(&mut self, node: &mut IdedExpr) -> Result<Type, Problem> {
        let id = node.id;
        let problem = |text: String| Problem { node: id, text };
        if is_type_name(&node.expr) {
            return Ok(Type::OfTypes);
        }
        match &mut node.expr {
            Expr::Literal(literal) => Ok(literal_type(literal)),
            Expr::Ident(name) => self.name(name).ok_or_else(|| problem(format!("undeclared reference to `{name}`"))),
            Expr::Select(select) => self.select(select),
            Expr::List(list) => {
                let mut element = None;
                for item in &mut list.elements {
                    let next = self.expression(item)?;
                    element = Some(self.variables.join(element, next));
                }
                Ok(Type::List(Box::new(element.unwrap_or_else(|| self.variables.fresh()))))
            }
            Expr::Map(map) => {
                let (mut key, mut value) = (None, None);
                for entry in &mut map.entries {
                    let EntryExpr::MapEntry(entry) = &mut entry.expr else {
                        return Err(problem("a map has entries only".to_owned()));
                    };
                    let next = self.expression(&mut entry.key)?;
                    key = Some(self.variables.join(key, next));
                    let next = self.expression(&mut entry.value)?;
                    value = Some(self.variables.join(value, next));
                }
                let mut or_fresh = |part: Option<Type>| Box::new(part.unwrap_or_else(|| self.variables.fresh()));
                Ok(Type::Map(or_fresh(key), or_fresh(value)))
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Call(call) => {
                let found = self.call(id, call)?;
                if let Some(replacement) = self.prepare(id, call)? {
                    node.expr = replacement;
                }
                evaluate_constant(node)?;
                Ok(found)
            }
            Expr::Struct(message) => Err(problem(format!("messages like `{}` are not supported", message.type_name))),
            Expr::Unspecified => Err(problem("the expression is empty".to_owned())),
        }
    }

    fn name(&mut self, name: &str) -> Option<Type> {
        if let Some((_, bound)) = self.scopes.iter().rev().find(|(bound, _)| bound == name) {
            return Some(bound.clone());
        }
        let string_map = |value| Type::Map(Box::new(Type::String), Box::new(value));
        let (name, found) = match name.strip_prefix('.').unwrap_or(name) {
            "name" => ("name", Type::String),
            "tags" => ("tags", string_map(Type::String)),
            "fields" => ("fields", string_map(Type::Dyn)),
            "time" => ("time", Type::Timestamp),
            "bool" | "int" | "uint" | "double" | "string" | "bytes" | "list" | "map" | "null_type" | "type" => {
                return Some(Type::OfTypes);
            }
            _ => return None,
        };
        self.findings.reads.insert(name);
        Some(found)
    }

    fn select(&mut self, select: &mut SelectExpr) -> Result<Type, Problem> {
        let operand = self.expression(&mut select.operand)?;
        let found = match self.variables.resolve(&operand, false) {
            Type::Map(_, value) => *value,
            Type::Dyn => Type::Dyn,
            variable @ Type::Variable(_) => {
                self.variables.accept(&Type::Dyn, &variable);
                Type::Dyn
            }
            other => {
                return Err(Problem {
                    node: select.operand.id,
                    text: format!("a value of type {other} has no field `{}`", select.field),
                });
            }
        };
        Ok(if select.test { Type::Bool } else { found })
    }

    fn comprehension(&mut self, comprehension: &mut ComprehensionExpr) -> Result<Type, Problem> {
        let accumulator = self.expression(&mut comprehension.accu_init)?;
        let range = self.expression(&mut comprehension.iter_range)?;
        let element = match self.variables.resolve(&range, false) {
            Type::List(element) => *element,
            Type::Map(key, _) => *key,
            Type::Dyn => Type::Dyn,
            variable @ Type::Variable(_) => {
                self.variables.accept(&Type::Dyn, &variable);
                Type::Dyn
            }
            other => {
                return Err(Problem {
                    node: comprehension.iter_range.id,
                    text: format!("a value of type {other} has no elements to go through"),
                });
            }
        };
        let depth = self.scopes.len();
        self.scopes.push((comprehension.accu_var.clone(), accumulator.clone()));
        self.scopes.push((comprehension.iter_var.clone(), element));
        let condition = self.expression(&mut comprehension.loop_cond)?;
        self.expect(&condition, &Type::Bool, comprehension.loop_cond.id)?;
        let step = self.expression(&mut comprehension.loop_step)?;
        self.expect(&step, &accumulator, comprehension.loop_step.id)?;
        self.scopes.truncate(depth + 1);
        let result = self.expression(&mut comprehension.result)?;
        self.scopes.truncate(depth);
        Ok(self.variables.resolve(&result, false))
    }

    fn expect(&mut self, found: &Type, wanted: &Type, node: u64) -> Result<(), Problem> {
        if self.variables.accept_all(std::slice::from_ref(found), std::slice::from_ref(wanted)) {
            return Ok(());
        }
        let (found, wanted) = (self.variables.resolve(found, true), self.variables.resolve(wanted, true));
        Err(Problem { node, text: format!("expected type {wanted} but found {found}") })
    }

    fn call(&mut self, node: u64, call: &mut CallExpr) -> Result<Type, Problem> {
        // `base64.encode(x)` is a function with a dot in its name, not a member of something called `base64`.
        let qualified = match call.target.as_deref() {
            Some(IdedExpr { expr: Expr::Ident(space), .. }) => format!("{space}.{}", call.func_name),
            _ => String::new(),
        };
        let mut arguments = Vec::with_capacity(call.args.len() + 1);
        let name = match &mut call.target {
            None => call.func_name.clone(),
            Some(_) if signatures::is_known(&qualified) => qualified,
            Some(target) => {
                arguments.push(self.expression(target)?);
                format!(".{}", call.func_name)
            }
        };
        for argument in &mut call.args {
            arguments.push(self.expression(argument)?);
        }
        if !signatures::is_known(&name) {
            let name = name.trim_start_matches('.');
            return Err(Problem { node, text: format!("undeclared reference to function `{name}`") });
        }
        signatures::result_of(&name, &arguments, &mut self.variables).ok_or_else(|| {
            let types: Vec<String> =
                arguments.iter().map(|argument| self.variables.resolve(argument, true).to_string()).collect();
            let name = name.trim_start_matches('.');
            Problem { node, text: format!("found no matching overload for `{name}` applied to ({})", types.join(", ")) }
        })
    }

    /// Renames a call that is checked, if a function of ours replaces it; gives what to put in its place altogether.
    fn prepare(&mut self, node: u64, call: &mut CallExpr) -> Result<Option<Expr>, Problem> {
        if call.func_name == "matches" {
            return self.prepare_pattern(node, call).map(|()| None);
        }
        if call.target.is_some() {
            return Ok(None);
        }
        if call.func_name == "now" {
            return Ok(Some(Expr::Ident(NOW.to_owned())));
        }
        if REPLACED.contains(&call.func_name.as_str()) {
            call.func_name.insert(0, '@');
        }
        Ok(None)
    }

    /// Compiles the regular expression of `x.matches("…")` or `matches(x, "…")`, if it is written out.
    fn prepare_pattern(&mut self, node: u64, call: &mut CallExpr) -> Result<(), Problem> {
        let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|last| &last.expr) else {
            return Ok(());
        };
        let regex = Regex::new(CelString::inner(pattern)).map_err(|error| Problem {
            node,
            text: format!("invalid regular expression {:?}: {}", pattern.inner(), last_line(&error.to_string())),
        })?;
        if let Some(argument) = call.args.last_mut() {
            argument.expr = Expr::Ident(format!("{PATTERN}{}", self.findings.patterns.len()));
        }
        self.findings.patterns.push(Pattern(regex));
        call.func_name = "@matches".to_owned();
        call.args.splice(0..0, call.target.take().map(|target| *target));
        Ok(())
    }
}

/// Conversions of constants are tried at once, so that a bad one is refused before the first metric.
fn evaluate_constant(node: &IdedExpr) -> Result<(), Problem> {
    let Expr::Call(call) = &node.expr else {
        return Ok(());
    };
    let [argument] = call.args.as_slice() else {
        return Ok(());
    };
    if !call.func_name.starts_with('@')
        || call.func_name == operators::NOT_STRICTLY_FALSE
        || !matches!(argument.expr, Expr::Literal(_))
    {
        return Ok(());
    }
    let context = Context::with_env(ENVIRONMENT.clone());
    Value::resolve_val(node, &context).map(|_| ()).map_err(|error| Problem { node: node.id, text: error.to_string() })
}

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Uint,
    }
}

/// Whether an expression spells the name of a type with dots in it.
fn is_type_name(expression: &Expr) -> bool {
    let Expr::Select(SelectExpr { operand, field, test: false }) = expression else {
        return false;
    };
    let Expr::Select(SelectExpr { operand, field: package, test: false }) = &operand.expr else {
        return false;
    };
    matches!(&operand.expr, Expr::Ident(root) if root == "google")
        && package == "protobuf"
        && matches!(field.as_str(), "Timestamp" | "Duration")
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or(text).trim_start_matches("error: ")
}
