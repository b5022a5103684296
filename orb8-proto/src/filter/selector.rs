//! Label selectors, as kubectl takes them.
//!
//! ```text
//! selector    = requirement { "," requirement }               all must match
//! requirement = key | "!" key
//!             | key ( "=" | "==" | "!=" ) [ value ]
//!             | key ( "in" | "notin" ) "(" [ value ] { "," [ value ] } ")"
//! ```
//!
//! `!=` and `notin` also match where the key is absent. An absent value is the empty one.

use super::{FilterError, Problem};

mod lexer;

use self::lexer::{Lexer, Token};

/// A compiled label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: Box<str>,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<Box<str>>),
    NotIn(Vec<Box<str>>),
}

/// What is wrong with a label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorProblem {
    /// Something else belongs there.
    #[error("{wanted} must stand where {found} does")]
    Unexpected {
        /// What belongs there.
        wanted: &'static str,
        /// What was found.
        found: String,
    },
    /// No label has such a key.
    #[error("`{0}` is no key; one is like `app` or `app.kubernetes.io/name`")]
    NotAKey(String),
    /// No label has such a value.
    #[error(
        "`{0}` is no value; one has at most 63 letters, digits, `-`, `_` and `.`, and begins and ends \
         with a letter or digit"
    )]
    NotAValue(String),
    /// kubectl compares numbers; nothing here has labels that are numbers.
    #[error("labels are not compared by size; name the values, like `key in (1,2)`")]
    Order,
}

impl Selector {
    /// Compiles a selector.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, SelectorProblem> {
        let mut tokens = Lexer::new(text);
        let mut requirements = Vec::new();
        loop {
            requirements.push(Requirement::read(&mut tokens)?);
            match tokens.next() {
                None => return Ok(Self(requirements)),
                Some(Token::Comma) => {}
                other => return Err(unexpected("`,` or the end", other)),
            }
        }
    }

    /// Whether a pod matches whose labels `value_of` tells.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|Requirement { key, test }| {
            let value = value_of(key);
            let is_in = |values: &[Box<str>]| {
                value.is_some_and(|value| values.iter().any(|wanted| **wanted == *value))
            };
            match test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(values) => is_in(values),
                Test::NotIn(values) => !is_in(values),
            }
        })
    }
}

impl Requirement {
    fn read(tokens: &mut Lexer<'_>) -> Result<Self, SelectorProblem> {
        match tokens.next() {
            Some(Token::Not) => {
                let next = tokens.next();
                Ok(Self { key: key(next)?, test: Test::Absent })
            }
            first => Ok(Self { key: key(first)?, test: Test::read(tokens)? }),
        }
    }
}

impl Test {
    fn read(tokens: &mut Lexer<'_>) -> Result<Self, SelectorProblem> {
        if matches!(tokens.peek(), None | Some(Token::Comma)) {
            return Ok(Self::Exists);
        }
        match tokens.next() {
            Some(Token::Equal) => Ok(Self::In(vec![value(tokens)?])),
            Some(Token::NotEqual) => Ok(Self::NotIn(vec![value(tokens)?])),
            Some(Token::Word("in")) => values(tokens).map(Self::In),
            Some(Token::Word("notin")) => values(tokens).map(Self::NotIn),
            Some(Token::Order(_)) => Err(SelectorProblem::Order),
            other => Err(unexpected("`=`, `!=`, `in`, `notin`, `,` or the end", other)),
        }
    }
}

fn key(token: Option<Token<'_>>) -> Result<Box<str>, SelectorProblem> {
    match token {
        Some(Token::Word(word)) if is_key(word) => Ok(word.into()),
        Some(Token::Word(word)) => Err(SelectorProblem::NotAKey(word.to_owned())),
        other => Err(unexpected("a key", other)),
    }
}

/// Reads one value, the empty one where there is none.
fn value(tokens: &mut Lexer<'_>) -> Result<Box<str>, SelectorProblem> {
    match tokens.peek() {
        Some(Token::Word(word)) => {
            tokens.next();
            if is_value(word) {
                Ok(word.into())
            } else {
                Err(SelectorProblem::NotAValue(word.into()))
            }
        }
        None | Some(Token::Comma | Token::Close) => Ok("".into()),
        other => Err(unexpected("a value", other)),
    }
}

fn values(tokens: &mut Lexer<'_>) -> Result<Vec<Box<str>>, SelectorProblem> {
    match tokens.next() {
        Some(Token::Open) => {}
        other => return Err(unexpected("`(`", other)),
    }
    if tokens.peek() == Some(Token::Close) {
        return Err(unexpected("a value", Some(Token::Close)));
    }
    let mut values = Vec::new();
    loop {
        values.push(value(tokens)?);
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::Close) => return Ok(values),
            other => return Err(unexpected("`,` or `)`", other)),
        }
    }
}

fn unexpected(wanted: &'static str, found: Option<Token<'_>>) -> SelectorProblem {
    let found = found.map_or_else(|| "the end".to_owned(), |token| format!("`{token}`"));
    SelectorProblem::Unexpected { wanted, found }
}

/// Longest name and value.
const NAME: usize = 63;

/// Longest prefix of a key.
const PREFIX: usize = 253;

fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_name(text),
        Some((prefix, name)) => {
            let is_label = |label: &str| is_framed(label, |byte| byte == b'-');
            let is_lower = !prefix.bytes().any(|byte| byte.is_ascii_uppercase());
            prefix.len() <= PREFIX && is_lower && prefix.split('.').all(is_label) && is_name(name)
        }
    }
}

fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME && is_framed(text, |byte| matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether it is letters and digits, with others between them only.
fn is_framed(text: &str, inside: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || inside(*byte))
}

pub(super) fn selectors(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<Selector>, FilterError> {
    let read = |text: &String| {
        Selector::new(text).map_err(|problem| {
            let selector = text.clone();
            FilterError { field, problem: Problem::NotASelector { selector, problem } }
        })
    };
    texts.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
