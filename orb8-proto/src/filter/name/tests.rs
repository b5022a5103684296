use super::*;

#[test]
fn what_kubernetes_refuses_is_refused() {
    let long = "a".repeat(LONGEST);
    for value in ["a", "0", "kube-system", "ip-10-0-0-1.ec2.internal", "web-*", "web.*", "*", &long]
    {
        assert!(Name::of_object("pod", value).is_ok(), "{value}");
    }
    let too_long = format!("{long}a");
    for value in [
        "Web", "we b", " web", "web ", "a_b", "-a", "a-", ".a*", "shop/web", "wéb", "a:b",
        &too_long,
    ] {
        let problem = Problem::NotAName(value.to_owned());
        let expected = Err(FilterError { field: "pod", problem });
        assert_eq!(Name::of_object("pod", value), expected, "{value}");
    }
    // They say more.
    let problem = |value| Name::of_object("pod", value).unwrap_err().problem;
    assert_eq!(problem(""), Problem::EmptyName);
    assert_eq!(problem("W*b"), Problem::InnerWildcard("W*b".to_owned()));
}

#[test]
fn a_namespace_comes_first_and_once() {
    let problem = |value| Namespaced::new("pod", value).unwrap_err().problem;
    assert_eq!(problem("a/b/c"), Problem::NotNamespaced("a/b/c".to_owned()));
    assert_eq!(problem("a//"), Problem::NotNamespaced("a//".to_owned()));
    assert_eq!(problem("/web"), Problem::EmptyName);
    assert_eq!(problem("Shop/web"), Problem::NotAName("Shop".to_owned()));
    assert_eq!(problem("shop/we b"), Problem::NotAName("we b".to_owned()));
    let any = Namespaced::new("pod", "shop/").unwrap();
    assert!(any.matches(Some("shop"), Some("web")) && !any.matches(Some("ops"), Some("web")));
}

#[test]
fn a_container_is_meant_by_name_or_by_enough_of_its_id() {
    let id = "c0ffee01d4e5b6a7".repeat(4);
    let short = &id[..SHORT_ID];
    for (value, named, unnamed) in [
        ("cart", true, false),
        ("c*", true, false),
        ("c0*", false, false),
        ("c0ffee01d4e*", false, false),
        ("c0ffee01d4e5*", true, true),
        ("c0ffee01d4e5", true, true),
        ("c0ffee01d4", false, false),
        ("ca*", true, false),
        ("b*", false, false),
        ("*", true, true),
    ] {
        let name = Name::new("container", value).unwrap();
        assert_eq!(name.matches_container(Some("cart"), Some(&id)), named, "{value}");
        assert_eq!(name.matches_container(Some(short), Some(&id)), unnamed, "{value}, unnamed");
    }
    let name = Name::new("container", "c0ffee01d4e5*").unwrap();
    assert!(!name.matches_container(Some("cart"), None));
}
