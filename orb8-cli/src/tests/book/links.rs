//! Links lead somewhere, and every page is led to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::pages::{Page, all, root};

/// Where a link leads from a page: the path from the root, and the heading in it.
fn target<'a>(page: &Page, link: &'a str) -> Option<(PathBuf, Option<&'a str>)> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link, None),
    };
    let path = match path {
        "" => page.path.clone(),
        path => normal(&page.path.parent().unwrap().join(path)),
    };
    Some((path, anchor))
}

fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{} leaves", path.display()),
            Component::CurDir => {}
            component => normal.push(component),
        }
    }
    normal
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
    let pages = all();
    let by_path: BTreeMap<&Path, &Page> =
        pages.iter().map(|page| (page.path.as_path(), page)).collect();
    let (mut broken, mut followed) = (Vec::new(), 0);
    for page in &pages {
        for link in &page.links {
            let Some((path, anchor)) = target(page, link) else { continue };
            followed += 1;
            let has_anchor = |anchor| {
                by_path
                    .get(path.as_path())
                    .is_some_and(|page| page.anchors.iter().any(|known| known == anchor))
            };
            if !root().join(&path).exists() || !anchor.is_none_or(has_anchor) {
                broken.push(format!("{}: {link}", page.name()));
            }
        }
    }
    assert!(followed > 100, "only {followed} links were found");
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn both_contents_list_every_page() {
    let pages = all();
    let listed = |contents: &str| -> BTreeSet<PathBuf> {
        let contents = pages.iter().find(|page| page.path == Path::new(contents)).unwrap();
        let links = contents.links.iter().filter_map(|link| target(contents, link));
        links.map(|(path, _)| path).collect()
    };
    for contents in ["docs/README.md", "docs/SUMMARY.md"] {
        let listed = listed(contents);
        for page in &pages {
            let is_contents = ["docs/README.md", "docs/SUMMARY.md"].map(Path::new);
            if page.path.starts_with("docs") && !is_contents.contains(&page.path.as_path()) {
                assert!(listed.contains(&page.path), "{contents} does not lead to {}", page.name());
            }
        }
    }
}
