//! Controllers: `name`, `kind/name`, `kind/`.

use super::name::Name;
use super::{FilterError, Problem};
use crate::kinds;

/// What the controller of a pod must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Controlled {
    /// In lower case; any where there are none.
    kinds: Vec<String>,
    name: Name,
}

/// A pod that nothing made is its own workload, for those who ask by this kind.
const POD: &str = "pod";

impl Controlled {
    fn new(field: &'static str, value: &str) -> Result<Self, FilterError> {
        let Some((kind, name)) = value.split_once('/') else {
            return Ok(Self { kinds: Vec::new(), name: Name::of_object(field, value)? });
        };
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        let is_kind = kind.starts_with(|first: char| first.is_ascii_alphabetic());
        if !is_kind || !kind.bytes().all(is_inner) || name.contains('/') {
            return Err(FilterError { field, problem: Problem::NotAWorkload(value.to_owned()) });
        }
        let name = if name.is_empty() { Name::any() } else { Name::of_object(field, name)? };
        Ok(Self { kinds: kinds::meant(kind), name })
    }

    /// Whether a pod with the name, made by the controller (kind, name), is meant.
    pub(super) fn matches(&self, controller: Option<(&str, &str)>, pod: Option<&str>) -> bool {
        let by_controller = controller.is_some_and(|(kind, name)| {
            let is_kind = |wanted: &String| wanted.eq_ignore_ascii_case(kind);
            (self.kinds.is_empty() || self.kinds.iter().any(is_kind))
                && self.name.matches(Some(name))
        });
        by_controller || (self.kinds.iter().any(|kind| kind == POD) && self.name.matches(pod))
    }
}

pub(super) fn workloads(
    field: &'static str,
    values: &[String],
) -> Result<Vec<Controlled>, FilterError> {
    values.iter().map(|value| Controlled::new(field, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(value: &str, controller: Option<(&str, &str)>, pod: &str) -> bool {
        Controlled::new("workload", value).unwrap().matches(controller, Some(pod))
    }

    #[test]
    fn a_controller_is_found_by_kind_and_name() {
        let web = Some(("Deployment", "web"));
        for (value, expected) in [
            ("web", true),
            ("we*", true),
            ("deploy/web", true),
            ("deployments.apps/w*", true),
            ("Deployment/", true),
            ("sts/web", false),
            ("deploy/db", false),
            ("po/web-7d4f", true),
            ("pod/web", false),
            ("web-7d4f", false),
        ] {
            assert_eq!(matches(value, web, "web-7d4f"), expected, "{value}");
        }
        assert!(matches("pytorchjobs/bert", Some(("PyTorchJob", "bert")), "bert-worker-0"));
        assert!(!matches("*", None, "alone"), "what nothing made has no controller");
        assert!(matches("pod/alone", None, "alone"));
    }

    #[test]
    fn nonsense_is_refused() {
        for value in ["/web", ".apps/web", "shop/deploy/web", "de ploy/web", "dep*/web"] {
            let error = Controlled::new("workload", value).unwrap_err();
            assert_eq!(error.problem, Problem::NotAWorkload(value.to_owned()));
        }
        let error = Controlled::new("workload", "deploy/We b").unwrap_err();
        assert_eq!(error.problem, Problem::NotAName("We b".to_owned()));
        let error = Controlled::new("workload", "deploy/w*b").unwrap_err();
        assert_eq!(error.problem, Problem::InnerWildcard("w*b".to_owned()));
        assert_eq!(Controlled::new("workload", "").unwrap_err().problem, Problem::EmptyName);
    }
}
