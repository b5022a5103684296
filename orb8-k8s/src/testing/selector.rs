//! Field selectors, as far as they are used.

use serde_json::Value;

/// Requirements that an object has to meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    pointer: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Understands a selector; what cannot be selected by is a problem, as on a real server.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let terms = text.split(',').filter(|term| !term.is_empty());
        terms.map(Requirement::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an object meets it. A field that is absent is empty.
    pub(super) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|Requirement { pointer, value, equal }| {
            let found = object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            (found == value) == *equal
        })
    }
}

impl Requirement {
    fn parse(term: &str) -> Result<Self, String> {
        let (field, value) = term.split_once('=').ok_or_else(|| format!("no `=` in `{term}`"))?;
        let (field, equal) = match field.strip_suffix('!') {
            Some(field) => (field, false),
            None => (field, true),
        };
        if !["metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"]
            .contains(&field)
        {
            return Err(format!("field label not supported: {field}"));
        }
        let pointer = format!("/{}", field.replace('.', "/"));
        let value = value.strip_prefix('=').unwrap_or(value).to_owned();
        Ok(Self { pointer, value, equal })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terms_are_met_together() {
        let selector = Selector::parse("spec.nodeName!=n1,status.phase==Running").unwrap();
        let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node}, "status": {"phase": phase}});
        assert!(selector.matches(&pod("n2", "Running")));
        assert!(!selector.matches(&pod("n1", "Running")));
        assert!(!selector.matches(&pod("n2", "Failed")));
        assert!(Selector::parse("spec.nodeName=").unwrap().matches(&json!({})));
        assert!(Selector::default().matches(&json!({})));
    }

    #[test]
    fn only_what_a_server_knows_is_selected_by() {
        assert!(Selector::parse("spec.hostname=a").is_err());
        assert!(Selector::parse("spec.nodeName").is_err());
    }
}
