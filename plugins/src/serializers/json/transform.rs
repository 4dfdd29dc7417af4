//! JSONata expressions over the document of a metric or batch.

use std::collections::HashMap;

use heliograph_core::error::BoxError;
use heliograph_core::model::{MetricRef, Value};
use heliograph_core::number::{write_i64, write_json_f64, write_u64};
use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::JValue;

use super::node::Node;

/// Longest time one evaluation may take: an expression can loop for ever, and an output would stand still with it.
const DEADLINE_MS: u64 = 5_000;
/// Most calls inside one another.
const DEEPEST: usize = 1_000;
/// Longest sequence an expression may make.
const LONGEST: usize = 10_000_000;

/// An expression, or why it is none: Telegraf starts all the same and reports it with each batch.
#[derive(Debug)]
pub(super) struct Transformation {
    source: String,
    parsed: Result<AstNode, String>,
}

/// Why a document could not be changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransformError {
    #[error("cannot compile `json_transformation` {expression:?}: {problem}")]
    Compile { expression: String, problem: String },
    #[error("cannot evaluate `json_transformation` {expression:?}: {problem}")]
    Evaluate { expression: String, problem: String },
    #[error(
        "`json_transformation` {expression:?} yields nothing with `use_batch_format = {is_batch}`; in batch mode the \
         document is {{\"metrics\": [...]}}, in non-batch mode a single metric"
    )]
    Undefined { expression: String, is_batch: bool },
}

impl Transformation {
    pub(super) fn new(expression: &str) -> Self {
        Self { source: expression.to_owned(), parsed: parser::parse(expression).map_err(|error| error.to_string()) }
    }

    /// Appends what the expression makes of a document.
    pub(super) fn apply(
        &self,
        document: &[u8],
        exact: &ExactNumbers,
        is_batch: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), BoxError> {
        let expression = || self.source.clone();
        let parsed = self
            .parsed
            .as_ref()
            .map_err(|problem| TransformError::Compile { expression: expression(), problem: problem.clone() })?;
        let data = JValue::from_json_str(std::str::from_utf8(document)?)?;
        let options = EvaluatorOptions {
            timeout_ms: Some(DEADLINE_MS),
            max_stack_depth: Some(DEEPEST),
            max_sequence_length: Some(LONGEST),
            ..EvaluatorOptions::default()
        };
        let value = Evaluator::with_options(Context::new(), options)
            .evaluate(parsed, &data)
            .map_err(|error| TransformError::Evaluate { expression: expression(), problem: error.to_string() })?;
        if value.is_undefined() {
            return Err(TransformError::Undefined { expression: expression(), is_batch }.into());
        }
        let node = node_of(&value).ok_or_else(|| TransformError::Evaluate {
            expression: expression(),
            problem: "the result holds a function or is nested too deeply".to_owned(),
        })?;
        node.write(&|value, out: &mut Vec<u8>| exact.write(value, out), out);
        Ok(())
    }
}

/// Deepest nesting of a result.
const MOST_LEVELS: usize = 512;

fn node_of(value: &JValue) -> Option<Node> {
    fn convert(value: &JValue, levels: usize) -> Option<Node> {
        Some(match value {
            JValue::Null | JValue::Undefined => Node::Null,
            JValue::Bool(truth) => Node::Bool(*truth),
            JValue::Number(number) => Node::Number(*number),
            JValue::String(text) => Node::Text(text.as_bytes().to_vec()),
            JValue::Array(_) => {
                let levels = levels.checked_sub(1)?;
                Node::Array(value.as_array()?.iter().map(|item| convert(item, levels)).collect::<Option<_>>()?)
            }
            JValue::Object(_) => {
                let levels = levels.checked_sub(1)?;
                let entry = |(key, value): (&String, &JValue)| Some((key.as_bytes().to_vec(), convert(value, levels)?));
                Node::Object(value.as_object()?.iter().map(entry).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }
    convert(value, MOST_LEVELS)
}

/// Integers of a document that no float holds exactly, by the float nearest to them.
///
/// An expression sees floats only. What it passes on unchanged (a time in nanoseconds, a counter) is to come out with all
/// its digits all the same, as it does in Telegraf, so that the float is taken back to the integer it came from.
#[derive(Debug, Default)]
pub(super) struct ExactNumbers(HashMap<u64, Integer>);

#[derive(Clone, Copy, Debug)]
enum Integer {
    Signed(i64),
    Unsigned(u64),
}

/// Below this bound (2^53) every integer is a float of its own.
const EXACT: u64 = 1 << 53;

impl ExactNumbers {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes the large integers of a metric; `timestamp` is the one of its document.
    pub(super) fn note(&mut self, metric: MetricRef<'_>, timestamp: Option<i64>) {
        timestamp.into_iter().for_each(|number| self.note_signed(number));
        for field in metric.fields {
            match field.value {
                Value::Int(number) => self.note_signed(number),
                Value::Uint(number) if number > EXACT => {
                    self.0.insert((number as f64).to_bits(), Integer::Unsigned(number));
                }
                _ => {}
            }
        }
    }

    fn note_signed(&mut self, number: i64) {
        if number.unsigned_abs() > EXACT {
            self.0.insert((number as f64).to_bits(), Integer::Signed(number));
        }
    }

    fn write(&self, value: f64, out: &mut Vec<u8>) {
        match self.0.get(&value.to_bits()) {
            Some(Integer::Signed(number)) => write_i64(out, *number),
            Some(Integer::Unsigned(number)) => write_u64(out, *number),
            None => write_json_f64(out, value),
        }
    }
}
