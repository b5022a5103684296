use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

type Labels = BTreeMap<String, String>;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn matches(selector: &str, labels: &Labels) -> bool {
    let selector = Selector::new(selector).unwrap();
    selector.matches(|key| labels.get(key).map(String::as_str))
}

#[test]
fn what_kubectl_takes_is_taken() {
    let web = labels(&[("app", "web"), ("app.kubernetes.io/part-of", "shop"), ("gpu", "")]);
    for (selector, expected) in [
        ("app=web", true),
        ("app==web", true),
        ("app = web , gpu", true),
        ("app=db", false),
        ("app!=db", true),
        ("app!=web", false),
        ("tier!=db", true),
        ("app in (web,api)", true),
        ("app in(web)", true),
        ("app notin (web, api)", false),
        ("tier notin (db)", true),
        ("tier in (db)", false),
        ("gpu", true),
        ("!gpu", false),
        ("! tier", true),
        ("gpu=", true),
        ("app=", false),
        ("gpu in (,a)", true),
        ("gpu in (a,)", true),
        ("gpu in (a,,b)", true),
        ("gpu notin (a,b)", true),
        ("app.kubernetes.io/part-of=shop,app,!tier", true),
        ("app=web,tier=db", false),
        ("in,notin", false),
        ("app=in", false),
        ("app in (in,notin,web)", true),
    ] {
        assert_eq!(matches(selector, &web), expected, "{selector}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let long = format!("app={}", "a".repeat(64));
    for (selector, problem) in [
        ("", "a key must stand where the end does"),
        ("app=web,", "a key must stand where the end does"),
        (",app", "a key must stand where `,` does"),
        ("!", "a key must stand where the end does"),
        ("!app=web", "`,` or the end must stand where `=` does"),
        ("app web", "`=`, `!=`, `in`, `notin`, `,` or the end must stand where `web` does"),
        ("app=web api", "`,` or the end must stand where `api` does"),
        ("app=!web", "a value must stand where `!` does"),
        ("app in web", "`(` must stand where `web` does"),
        ("app in ()", "a value must stand where `)` does"),
        ("app in (web", "`,` or `)` must stand where the end does"),
        ("app in (web api)", "`,` or `)` must stand where `api` does"),
        ("app=web)", "`,` or the end must stand where `)` does"),
        ("gpus>1", "labels are not compared by size; name the values, like `key in (1,2)`"),
        ("-app", "`-app` is no key; one is like `app` or `app.kubernetes.io/name`"),
        (
            "Example.com/app",
            "`Example.com/app` is no key; one is like `app` or `app.kubernetes.io/name`",
        ),
        ("a/b/c", "`a/b/c` is no key; one is like `app` or `app.kubernetes.io/name`"),
        ("/app", "`/app` is no key; one is like `app` or `app.kubernetes.io/name`"),
        (
            "app=web*",
            "`web*` is no value; one has at most 63 letters, digits, `-`, `_` and `.`, and begins and \
             ends with a letter or digit",
        ),
    ] {
        assert_eq!(Selector::new(selector).unwrap_err().to_string(), problem, "{selector}");
    }
    assert!(matches!(Selector::new(&long), Err(SelectorProblem::NotAValue(_))));
    let error = selectors("label", &["app=".to_owned(), "a b".to_owned()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "label: `a b` is no label selector like `app=web,tier!=db`: `=`, `!=`, `in`, `notin`, `,` or \
         the end must stand where `b` does"
    );
}

/// A requirement, as a test writes and judges it.
#[derive(Clone, Debug)]
struct Naive {
    key: String,
    operator: &'static str,
    values: Vec<String>,
}

impl Naive {
    fn text(&self, blank: &str) -> String {
        let Self { key, operator, values } = self;
        match *operator {
            "" => key.clone(),
            "!" => format!("!{blank}{key}"),
            "in" | "notin" => {
                let values = values.join(&format!(",{blank}"));
                format!("{key} {operator}{blank}({blank}{values}{blank})")
            }
            sign => format!("{key}{blank}{sign}{blank}{}", values[0]),
        }
    }

    fn matches(&self, labels: &Labels) -> bool {
        match (self.operator, labels.get(&self.key)) {
            ("" | "!", value) => value.is_some() == self.operator.is_empty(),
            ("!=" | "notin", None) => true,
            (_, None) => false,
            ("=" | "==", Some(value)) => *value == self.values[0],
            ("!=", Some(value)) => *value != self.values[0],
            ("in", Some(value)) => self.values.contains(value),
            (_, Some(value)) => !self.values.contains(value),
        }
    }
}

fn any_key() -> impl Strategy<Value = String> {
    select(vec!["app", "tier", "in", "a.b/c-d", "X_1"]).prop_map(str::to_owned)
}

fn any_value() -> impl Strategy<Value = String> {
    select(vec!["web", "db", "in", "notin", "1.0", "A_b-c"]).prop_map(str::to_owned)
}

prop_compose! {
    fn any_requirement()(
        key in any_key(),
        operator in select(vec!["", "!", "=", "==", "!=", "in", "notin"]),
        values in vec(any_value(), 1..4),
    ) -> Naive {
        // One value stands where there is one only.
        let kept = if operator.ends_with("in") { values.len() } else { 1 };
        Naive { key, operator, values: values[..kept].to_vec() }
    }
}

proptest! {
    #[test]
    fn a_selector_is_all_of_its_requirements(
        requirements in vec(any_requirement(), 1..5),
        labels in btree_map(any_key(), any_value(), 0..4),
        blank in select(vec!["", " ", "\t "]),
    ) {
        let texts: Vec<String> = requirements.iter().map(|one| one.text(blank)).collect();
        let selector = texts.join(&format!("{blank},"));
        let expected = requirements.iter().all(|one| one.matches(&labels));
        prop_assert_eq!(matches(&selector, &labels), expected, "{}", selector);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z=!,() <>*./é-]{0,24}", other in ".*") {
        for text in [text, other] {
            if let Ok(selector) = Selector::new(&text) {
                selector.matches(|_| None);
            }
        }
    }

    #[test]
    fn keys_and_values_are_those_of_kubernetes(text in "[a-zA-Z0-9._-]{1,70}") {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let expected = text.len() <= 63 && ends(text.chars().next()) && ends(text.chars().last());
        prop_assert_eq!(Selector::new(&text).is_ok(), expected);
        prop_assert_eq!(Selector::new(&format!("app={text}")).is_ok(), expected);
    }
}
