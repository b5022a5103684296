//! Kinds of controllers, as they are typed and printed: `deploy` for `Deployment`.

use std::borrow::Cow;

/// kubectl's short names, in lower case like all that is compared with them.
const SHORT: &[(&str, &str)] = &[
    ("cj", "cronjob"),
    ("deploy", "deployment"),
    ("ds", "daemonset"),
    ("no", "node"),
    ("po", "pod"),
    ("rc", "replicationcontroller"),
    ("rs", "replicaset"),
    ("sts", "statefulset"),
];

/// Returns the word for a kind: kubectl's short name, else the kind in lower case.
#[must_use]
pub fn word(kind: &str) -> Cow<'static, str> {
    match SHORT.iter().find(|(_, long)| long.eq_ignore_ascii_case(kind)) {
        Some((short, _)) => Cow::Borrowed(short),
        None => Cow::Owned(kind.to_lowercase()),
    }
}

/// Returns the kinds, in lower case, that someone may mean who typed this: a kind in any case, its
/// plural, kubectl's short name, each with or without its group (`deployments.apps`).
///
/// What is no short name may be a kind that ends like a plural, so there may be several.
#[must_use]
pub fn meant(typed: &str) -> Vec<String> {
    let typed = typed.to_lowercase();
    let typed = typed.split('.').next().unwrap_or_default();
    if let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == typed) {
        return vec![(*long).to_owned()];
    }
    let singulars = [("ies", "y"), ("es", ""), ("s", "")]
        .into_iter()
        .filter_map(|(ending, end)| Some(format!("{}{end}", typed.strip_suffix(ending)?)))
        .filter(|singular| !singular.is_empty() && plural(singular) == typed);
    std::iter::once(typed.to_owned()).chain(singulars).collect()
}

/// Forms a plural as the API server does for what names none.
fn plural(singular: &str) -> String {
    match (singular.strip_suffix('y'), singular.ends_with('s')) {
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{singular}es"),
        (None, false) => format!("{singular}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_printed_as_kubectl_takes_them() {
        for (kind, printed) in [
            ("Deployment", "deploy"),
            ("StatefulSet", "sts"),
            ("Job", "job"),
            ("PyTorchJob", "pytorchjob"),
        ] {
            assert_eq!(word(kind), printed);
            assert!(meant(printed).contains(&kind.to_lowercase()), "what is printed can be typed");
        }
    }

    #[test]
    fn what_is_typed_may_be_short_plural_or_have_a_group() {
        for typed in ["deploy", "Deployment", "deployments", "deployments.apps", "DEPLOY.apps"] {
            assert!(meant(typed).contains(&"deployment".to_owned()), "{typed}");
        }
        assert_eq!(meant("policies"), ["policies", "policy", "policie"]);
        assert_eq!(meant("classes"), ["classes", "class", "classe"]);
        assert_eq!(meant("redis"), ["redis", "redi"]);
        assert_eq!(meant("ds"), ["daemonset"]);
        assert_eq!(meant("s"), ["s"]);
    }
}
