//! What a server answers.

use bytes::Bytes;
use redis::Value;

/// A reply, or an element of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Nil,
    /// `+OK`.
    Okay,
    Int(i64),
    Bulk(Bytes),
    /// A line of text.
    Simple(String),
    /// Text whose kind is named before it; the name is left out.
    Verbatim(String),
    Boolean(bool),
    Double(f64),
    Array(Vec<Self>),
    Set(Vec<Self>),
    Map(Vec<(Self, Self)>),
    Error(ServerError),
    /// A kind that answers no command of larder's, such as a number beyond 64 bits.
    Unknown,
}

/// An error of the server's: a code, and a text that may quote values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerError(String);

impl ServerError {
    /// The error of a line, such as `ERR unknown command`.
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }

    /// The first word, which is a code if the server follows the custom.
    pub(super) fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// What comes after the code.
    pub(super) fn text(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, text)| text)
    }
}

/// A reply that the driver has read, over a connection of its own.
impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        let all = |values: Vec<Value>| values.into_iter().map(Self::from).collect();
        match value {
            Value::Nil => Self::Nil,
            Value::Okay => Self::Okay,
            Value::Int(number) => Self::Int(number),
            Value::BulkString(bytes) => Self::Bulk(bytes.into()),
            Value::SimpleString(text) => Self::Simple(text),
            Value::VerbatimString { text, .. } => Self::Verbatim(text),
            Value::Boolean(is_so) => Self::Boolean(is_so),
            Value::Double(number) => Self::Double(number),
            Value::Array(values) => Self::Array(all(values)),
            Value::Set(values) => Self::Set(all(values)),
            Value::Map(pairs) => Self::Map(
                pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            ),
            Value::Attribute { data, .. } => Self::from(*data),
            Value::ServerError(error) => Self::Error(ServerError::new(match error.details() {
                Some(text) => format!("{} {text}", error.code()),
                None => error.code().to_owned(),
            })),
            _ => Self::Unknown,
        }
    }
}
