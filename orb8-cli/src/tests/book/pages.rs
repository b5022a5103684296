//! The pages, taken apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd};

/// The repository.
pub(super) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// One file of Markdown.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Path from the repository's root.
    pub(super) path: PathBuf,
    /// What headings are linked by, as GitHub and mdBook make it of their text.
    pub(super) anchors: Vec<String>,
    pub(super) links: Vec<String>,
    pub(super) blocks: Vec<Block>,
    /// Inline code.
    pub(super) codes: Vec<String>,
}

/// A block of code.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) language: String,
    pub(super) text: String,
}

impl Page {
    pub(super) fn read(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(root().join(&path)).unwrap_or_else(|error| {
            panic!("{}: {error}", path.display());
        });
        let mut page = Self { path, ..Self::default() };
        let mut heading = None;
        let mut is_block = false;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.anchors.push(slug(&heading.take().unwrap())),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                Event::Start(Tag::CodeBlock(kind)) => {
                    is_block = true;
                    let language = language(kind);
                    page.blocks.push(Block { language, ..Block::default() });
                }
                Event::End(TagEnd::CodeBlock) => is_block = false,
                Event::Text(text) if is_block => page.blocks.last_mut().unwrap().text += &text,
                Event::Text(text) => add(&mut heading, &text),
                Event::Code(code) => {
                    add(&mut heading, &code);
                    page.codes.push(code.into_string());
                }
                _ => {}
            }
        }
        tell_apart(&mut page.anchors);
        page
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// All code, in blocks and inline.
    pub(super) fn code(&self) -> impl Iterator<Item = &str> {
        let blocks = self.blocks.iter().map(|block| block.text.as_str());
        blocks.chain(self.codes.iter().map(String::as_str))
    }
}

/// Reads the book, and the Markdown beside it.
pub(super) fn all() -> Vec<Page> {
    let mut paths = Vec::new();
    find(Path::new(""), &mut paths);
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

/// Reads the book alone.
pub(super) fn book() -> Vec<Page> {
    all().into_iter().filter(|page| page.path.starts_with("docs")).collect()
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = folder.join(&name);
        if entry.file_type().unwrap().is_dir() {
            let is_made = name.starts_with('.') || name == "target";
            // Of tests, not for readers.
            if !is_made && name != "corpus" && name != "shared" {
                find(&path, paths);
            }
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
}

fn language(kind: CodeBlockKind<'_>) -> String {
    match kind {
        CodeBlockKind::Fenced(language) => language.into_string(),
        CodeBlockKind::Indented => String::new(),
    }
}

fn add(heading: &mut Option<String>, text: &CowStr<'_>) {
    if let Some(heading) = heading {
        heading.push_str(text);
    }
}

fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.collect::<String>().to_lowercase()
}

/// Numbers those that are there already.
fn tell_apart(anchors: &mut [String]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for anchor in anchors {
        let times = seen.entry(anchor.clone()).or_default();
        if *times > 0 {
            *anchor = format!("{anchor}-{times}");
        }
        *times += 1;
    }
}

#[test]
fn headings_are_linked_as_github_does() {
    assert_eq!(slug("Alert: orb8 agent down"), "alert-orb8-agent-down");
    assert_eq!(slug("`orb8 trace network`"), "orb8-trace-network");
    let mut twice = ["a".to_owned(), "a".to_owned()];
    tell_apart(&mut twice);
    assert_eq!(twice, ["a", "a-1"]);
}
