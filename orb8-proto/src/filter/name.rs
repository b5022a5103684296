//! Names: exact, or a prefix with a trailing `*`.
//!
//! Those that Kubernetes gives are judged as it judges them: what it refuses can match nothing.

use super::{FilterError, Problem};

/// A name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Exact(Box<str>),
    Prefix(Box<str>),
}

/// A name that may have its namespace in front: `name`, `namespace/name`, `namespace/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Namespaced {
    namespace: Option<Name>,
    name: Name,
}

/// Digits from which a container value may be the beginning of an id, as container tools print it.
const SHORT_ID: usize = 12;

/// Longest name of any object (RFC 1123).
const LONGEST: usize = 253;

impl Name {
    /// What any name matches.
    pub(super) fn any() -> Self {
        Self::Prefix("".into())
    }

    pub(super) fn new(field: &'static str, value: &str) -> Result<Self, FilterError> {
        let prefix = value.strip_suffix('*');
        let text = prefix.unwrap_or(value);
        if text.contains('*') {
            return Err(FilterError { field, problem: Problem::InnerWildcard(value.to_owned()) });
        }
        match prefix {
            Some(prefix) => Ok(Self::Prefix(prefix.into())),
            None if value.is_empty() => Err(FilterError { field, problem: Problem::EmptyName }),
            None => Ok(Self::Exact(value.into())),
        }
    }

    /// Reads the name of a Kubernetes object, or the beginning of one.
    pub(super) fn of_object(field: &'static str, value: &str) -> Result<Self, FilterError> {
        let name = Self::new(field, value)?;
        match name.is_of_object() {
            true => Ok(name),
            false => Err(FilterError { field, problem: Problem::NotAName(value.to_owned()) }),
        }
    }

    fn is_of_object(&self) -> bool {
        let (text, is_whole) = match self {
            Self::Exact(text) => (text, true),
            Self::Prefix(text) => (text, false),
        };
        let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        bytes.len() <= LONGEST
            && bytes.iter().all(|byte| is_end(byte) || matches!(byte, b'-' | b'.'))
            && bytes.first().is_none_or(is_end)
            && (!is_whole || bytes.last().is_none_or(is_end))
    }

    pub(super) fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Self::Exact(name) => value == Some(name),
            Self::Prefix(prefix) => value.is_some_and(|value| value.starts_with(&**prefix)),
        }
    }

    /// Whether a container is meant, by name or id. One without a name goes by the beginning of its
    /// id, which is no name: `c*` asks for names, and not for every sixteenth container.
    pub(super) fn matches_container(&self, name: Option<&str>, id: Option<&str>) -> bool {
        let is_of_id =
            |name: &&str| name.len() >= SHORT_ID && id.is_some_and(|id| id.starts_with(*name));
        self.matches(name.filter(|name| !is_of_id(name))) || self.matches_id(id)
    }

    fn matches_id(&self, id: Option<&str>) -> bool {
        let (Self::Exact(start) | Self::Prefix(start)) = self;
        let is_any = *self == Self::any();
        (is_any || start.len() >= SHORT_ID) && id.is_some_and(|id| id.starts_with(&**start))
    }
}

impl Namespaced {
    fn new(field: &'static str, value: &str) -> Result<Self, FilterError> {
        match value.split_once('/') {
            None => Ok(Self { namespace: None, name: Name::of_object(field, value)? }),
            Some((_, name)) if name.contains('/') => {
                Err(FilterError { field, problem: Problem::NotNamespaced(value.to_owned()) })
            }
            Some((namespace, name)) => {
                let namespace = Some(Name::of_object(field, namespace)?);
                let name =
                    if name.is_empty() { Name::any() } else { Name::of_object(field, name)? };
                Ok(Self { namespace, name })
            }
        }
    }

    pub(super) fn matches(&self, namespace: Option<&str>, name: Option<&str>) -> bool {
        self.name.matches(name)
            && self.namespace.as_ref().is_none_or(|wanted| wanted.matches(namespace))
    }
}

pub(super) fn names(field: &'static str, values: &[String]) -> Result<Vec<Name>, FilterError> {
    values.iter().map(|value| Name::new(field, value)).collect()
}

pub(super) fn object_names(
    field: &'static str,
    values: &[String],
) -> Result<Vec<Name>, FilterError> {
    values.iter().map(|value| Name::of_object(field, value)).collect()
}

pub(super) fn namespaced(
    field: &'static str,
    values: &[String],
) -> Result<Vec<Namespaced>, FilterError> {
    values.iter().map(|value| Namespaced::new(field, value)).collect()
}

#[cfg(test)]
mod tests;
