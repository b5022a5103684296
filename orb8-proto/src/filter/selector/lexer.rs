//! What a label selector is made of.

use std::fmt::{self, Display};

/// One piece of a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A key, a value, `in` or `notin`.
    Word(&'a str),
    /// `=` or `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `!`.
    Not,
    /// `,`.
    Comma,
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `<` or `>`.
    Order(char),
}

impl Display for Token<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => formatter.write_str(word),
            Self::Equal => formatter.write_str("="),
            Self::NotEqual => formatter.write_str("!="),
            Self::Not => formatter.write_str("!"),
            Self::Comma => formatter.write_str(","),
            Self::Open => formatter.write_str("("),
            Self::Close => formatter.write_str(")"),
            Self::Order(sign) => write!(formatter, "{sign}"),
        }
    }
}

/// Takes a selector apart. Blanks only separate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    rest: &'a str,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Returns the next piece, and stays where it is.
    pub(super) fn peek(&self) -> Option<Token<'a>> {
        let mut ahead = *self;
        ahead.next()
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = self.rest.trim_start_matches(is_blank);
        let (token, length) = match self.rest.as_bytes() {
            [] => return None,
            [b'=', b'=', ..] => (Token::Equal, 2),
            [b'=', ..] => (Token::Equal, 1),
            [b'!', b'=', ..] => (Token::NotEqual, 2),
            [b'!', ..] => (Token::Not, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            [b'<', ..] => (Token::Order('<'), 1),
            [b'>', ..] => (Token::Order('>'), 1),
            _ => {
                let end = self.rest.find(|letter| is_blank(letter) || is_sign(letter));
                let word = &self.rest[..end.unwrap_or(self.rest.len())];
                (Token::Word(word), word.len())
            }
        };
        self.rest = &self.rest[length..];
        Some(token)
    }
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\r' | '\n')
}

fn is_sign(letter: char) -> bool {
    matches!(letter, '=' | '!' | ',' | '(' | ')' | '<' | '>')
}
