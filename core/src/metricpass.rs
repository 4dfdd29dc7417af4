//! CEL expressions that select metrics (placeholder of the interface).

/// A field value.
#[derive(Debug, Clone, Copy)]
pub enum CelField<'a> {
    /// Signed.
    Int(i64),
    /// Unsigned.
    Uint(u64),
    /// Float.
    Float(f64),
    /// Truth value.
    Bool(bool),
    /// Byte string.
    Text(&'a [u8]),
}

/// Why an expression cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MetricPassError(String);

/// A compiled expression.
#[derive(Debug)]
pub struct MetricPass(());

impl MetricPass {
    /// Compiles.
    pub fn compile(_expression: &str) -> Result<Self, MetricPassError> {
        Ok(Self(()))
    }

    /// Evaluates.
    pub fn evaluate<'a>(
        &self,
        _name: &[u8],
        _tags: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        _fields: impl Iterator<Item = (&'a [u8], CelField<'a>)>,
        _time: i64,
        _now: i64,
    ) -> Result<bool, MetricPassError> {
        Ok(true)
    }
}
