//! Patterns of names, and regular expressions.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Bytes of a compiled expression at most.
const MAX_COMPILED: usize = 1 << 20;

/// What `*` stands for, dots included.
const ANY: &str = "[-._0-9a-z]*";

/// Compiles patterns of names in which `*` stands for any text.
pub(super) fn names(patterns: &[String]) -> Result<Regex, String> {
    let parts = patterns.iter().map(|pattern| part(pattern)).collect::<Result<Vec<_>, _>>()?;
    whole(&parts)
}

/// Compiles patterns of nodes: `node`, `cluster/node`, `cluster/`.
pub(super) fn node_names(patterns: &[String]) -> Result<Regex, String> {
    let element = |text: &str| match text {
        "" => Ok(ANY.to_owned()),
        text => part(text),
    };
    let read = |pattern: &String| {
        let (cluster, node) = match pattern.split_once('/') {
            _ if pattern.is_empty() => return Err("a pattern must not be empty".to_owned()),
            None => ("", pattern.as_str()),
            Some((_, node)) if node.contains('/') => {
                return Err(format!(
                    "`{pattern}` has more than one `/`; one is like `cluster/node`"
                ));
            }
            Some(both) => both,
        };
        Ok(format!("{}/{}", element(cluster)?, element(node)?))
    };
    whole(&patterns.iter().map(read).collect::<Result<Vec<_>, _>>()?)
}

/// Compiles regular expressions, of which one must be found anywhere.
pub(super) fn queries(expressions: &[String]) -> Result<RegexSet, String> {
    RegexSetBuilder::new(expressions)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| format!("not a regular expression: {}", one_line(&error)))
}

fn whole(parts: &[String]) -> Result<Regex, String> {
    RegexBuilder::new(&format!(r"\A(?:{})\z", parts.join("|")))
        .unicode(false)
        .size_limit(MAX_COMPILED)
        .build()
        .map_err(|error| one_line(&error))
}

fn part(pattern: &str) -> Result<String, String> {
    let trimmed = pattern.trim();
    let name = trimmed.strip_suffix('.').unwrap_or(trimmed).to_lowercase();
    let is_inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._*".contains(&byte);
    if name.is_empty() || name.ends_with('.') || !name.bytes().all(is_inner) {
        return Err(format!("`{pattern}` is no name like `web.example`, in which `*` is any text"));
    }
    Ok(name.replace('.', r"\.").replace('*', ANY))
}

/// The last line of what is wrong with an expression says it; those before draw it.
fn one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        names(&[pattern.to_owned()]).unwrap().is_match(name)
    }

    #[test]
    fn stars_stand_for_any_text() {
        assert!(matches("Web.Example.", "web.example"));
        assert!(!matches("web.example", "web-example"), "a dot is a dot");
        assert!(!matches("web.example", "a.web.example"));
        assert!(matches("*.example", "a.b.example"));
        assert!(matches("*.cluster.local*", "web.svc.cluster.local"));
        assert!(matches("*", "_srv._tcp.example"));
        for bad in ["", " ", "..", "a b", "a/b", "ä"] {
            assert!(names(&[bad.to_owned()]).unwrap_err().contains("is no name"), "{bad}");
        }
    }

    #[test]
    fn nodes_are_found_in_their_cluster() {
        let matches =
            |pattern: &str, node: &str| node_names(&[pattern.to_owned()]).unwrap().is_match(node);
        assert!(matches("node-1", "default/node-1"));
        assert!(matches("node-*", "other/node-1"));
        assert!(matches("default/", "default/node-1"));
        assert!(!matches("other/", "default/node-1"));
        assert!(matches("/node-1", "default/node-1"));
        for bad in ["", "a/b/c", "a b"] {
            assert!(node_names(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn expressions_are_bounded_and_named_when_bad() {
        let set = |text: &str| queries(&[text.to_owned()]);
        assert!(set(r"kube.*local\.$").unwrap().is_match("kube-dns.local."));
        let error = set("(").unwrap_err();
        assert!(error.contains("unclosed group") && !error.contains('\n'), "{error}");
        let error = set(r"(\w{100}){1000}").unwrap_err();
        assert!(error.contains("size limit"), "{error}");
    }
}
