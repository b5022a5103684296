//! Patterns of DNS names.

use super::{FilterError, Problem};

/// A pattern in which `*` stands for any text, dots included.
///
/// Names are compared in lower case and without the last dot. What ends in `.svc` also matches
/// below the cluster's domain, whatever that is: `*.svc` is `*.svc` or `*.svc.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// What the stars separate; a name without stars is one part.
    parts: Box<[Box<str>]>,
    /// Whether more labels may follow.
    has_domain: bool,
}

impl Glob {
    pub(super) fn new(field: &'static str, pattern: &str) -> Result<Self, FilterError> {
        if pattern.is_empty() {
            return Err(FilterError { field, problem: Problem::EmptyName });
        }
        let pattern = pattern.to_lowercase();
        let pattern = match pattern.strip_suffix('.') {
            // The root itself.
            None | Some("") => &pattern,
            Some(relative) => relative,
        };
        Ok(Self {
            parts: pattern.split('*').map(Box::from).collect(),
            has_domain: pattern.ends_with(".svc"),
        })
    }

    /// Whether a name, in lower case, matches.
    pub(super) fn matches(&self, name: &str) -> bool {
        let [first, rest @ ..] = &*self.parts else {
            return false;
        };
        let Some(name) = name.strip_prefix(&**first) else {
            return false;
        };
        let [middle @ .., last] = rest else {
            return self.is_end(name);
        };
        // Leftmost is best: it leaves the most for what follows.
        let found = middle
            .iter()
            .try_fold(name, |name, part| name.find(&**part).map(|at| &name[at + part.len()..]));
        found.is_some_and(|name| self.ends(name, last))
    }

    /// Whether the last part is at the end of what is left, or a domain follows it.
    fn ends(&self, name: &str, last: &str) -> bool {
        name.ends_with(last)
            || self.has_domain
                && name.match_indices(last).any(|(at, _)| self.is_end(&name[at + last.len()..]))
    }

    /// Whether nothing is left of a name that must not be.
    fn is_end(&self, left: &str) -> bool {
        left.is_empty() || self.has_domain && left.starts_with('.')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::new("name", pattern).unwrap().matches(name)
    }

    #[test]
    fn without_a_star_it_is_the_name() {
        assert!(matches("example.com", "example.com"));
        assert!(matches("Example.COM.", "example.com"), "any case, and the root's dot");
        assert!(!matches("example.com", "www.example.com"));
        assert!(!matches("example.com", "example.com.au"));
        assert!(matches(".", ".") && !matches(".", "com"));
    }

    #[test]
    fn a_star_is_any_text() {
        assert!(matches("*", "a.b") && matches("*", "."));
        assert!(matches("*.example.com", "a.b.example.com"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(matches("api.*", "api.example.com") && !matches("api.*", "xapi.example.com"));
        assert!(
            matches("a*b*c", "axxbyyc") && matches("a*b*c", "abbc") && !matches("a*b*c", "acb")
        );
        assert!(matches("*b*", "abc") && !matches("*b*", "ac"));
        assert!(!matches("ab*bc", "abc"), "one b is not two");
    }

    #[test]
    fn a_service_is_one_in_any_cluster_domain() {
        assert!(matches("*.svc", "web.ml.svc"));
        assert!(matches("*.svc", "web.ml.svc.cluster.local"));
        assert!(matches("web.ml.svc", "web.ml.svc.corp.example"));
        assert!(matches("*.ml.svc", "a.svc.b.ml.svc.cluster.local"));
        assert!(!matches("*.svc", "web.ml.svcs") && !matches("*.svc", "svc.example.com"));
        assert!(!matches("web.ml.svc", "web.ml.svcx"));
        assert!(!matches("*.com", "a.com.evil"), "other endings are endings");
    }

    #[test]
    fn an_empty_pattern_is_refused() {
        let error = Glob::new("name", "").unwrap_err();
        assert_eq!(error, FilterError { field: "name", problem: Problem::EmptyName });
    }

    /// The definition, without any cleverness.
    fn reference(pattern: &[u8], name: &[u8]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [b'*', rest @ ..] => (0..=name.len()).any(|at| reference(rest, &name[at..])),
            [first, rest @ ..] => name.first() == Some(first) && reference(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_it_is_defined_as(pattern in "[ab.*]{1,6}(\\.svc)?", name in "[ab.]{0,8}(\\.svc)?[ab.]{0,3}") {
            prop_assume!(!pattern.ends_with('.'));
            let mut expected = reference(pattern.as_bytes(), name.as_bytes());
            if pattern.ends_with(".svc") {
                expected |= reference(format!("{pattern}.*").as_bytes(), name.as_bytes());
            }
            prop_assert_eq!(matches(&pattern, &name), expected);
        }
    }
}
