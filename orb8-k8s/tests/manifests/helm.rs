//! What Helm makes of the chart: Go's templates, with those of Helm's functions that the chart uses.
//! Where a `helm` is installed, `chart` compares with what that one makes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};

use gotmpl::{FuncMap, MissingKey, Template, TemplateError, Value as Data, ValueFunc};
use serde_json::{Map, Number, Value, json};

use super::documents::{Document, root, text};

/// The chart, from the checkout's root.
pub(super) const CHART: &str = "deploy/helm/orb8";
/// What a release of the tests is called, and where it goes.
pub(super) const RELEASE: &str = "orb8";
pub(super) const NAMESPACE: &str = "orb8-system";

/// Reads a YAML file of the chart that has one document.
pub(super) fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(Path::new(CHART).join(name)))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The chart's values, changed as `--values` and `--set` change them.
pub(super) fn values(changes: &Value) -> Value {
    let mut values = yaml("values.yaml");
    merge(&mut values, changes);
    values
}

fn merge(values: &mut Value, changes: &Value) {
    match (values, changes) {
        (Value::Object(values), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(values.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change.clone(),
    }
}

/// Renders the chart's objects.
pub(super) fn render(values: &Value) -> Result<Vec<Document>, TemplateError> {
    let mut documents = Vec::new();
    for (path, rendered) in render_files(values)? {
        if path.ends_with("NOTES.txt") {
            continue;
        }
        let found: Vec<Value> = serde_saphyr::from_multiple(&rendered)
            .unwrap_or_else(|error| panic!("{}: {error}\n{rendered}", path.display()));
        let found = found.into_iter().filter(|value| !value.is_null());
        documents.extend(found.map(|value| Document { path: path.clone(), value }));
    }
    Ok(documents)
}

/// Renders every template of the chart to text.
pub(super) fn render_files(values: &Value) -> Result<BTreeMap<PathBuf, String>, TemplateError> {
    let chart = yaml("Chart.yaml");
    let scope = json!({
        "Values": values,
        "Release": {"Name": RELEASE, "Namespace": NAMESPACE, "Service": "Helm"},
        "Chart": {"Name": chart["name"], "Version": chart["version"],
            "AppVersion": chart["appVersion"]},
    });
    let scope = data(&scope);
    let templates = files("templates");
    let set = parse(&templates)?;
    let rendered = templates.keys().filter(|path| !path.ends_with(".tpl"));
    let render = |path: &String| {
        let rendered = set.execute_template_to_string(path, &scope)?;
        Ok((Path::new(CHART).join(path), rendered))
    };
    rendered.map(render).collect()
}

/// Files of the chart below a folder, by their paths in it.
fn files(folder: &str) -> BTreeMap<String, String> {
    let chart = root().join(CHART);
    let mut found = BTreeMap::new();
    let mut folders = vec![chart.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&chart).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}

/// One template set, in which each file has its path for a name, as in Helm.
fn parse(templates: &BTreeMap<String, String>) -> Result<Arc<Template>, TemplateError> {
    let mut source = String::new();
    for (path, template) in templates {
        // Methods of `.Files` are functions here.
        let template =
            template.replace("$.Files.Get", "filesGet").replace(".Files.Glob", "filesGlob");
        if path.ends_with(".tpl") {
            source += &template;
        } else {
            source += &format!("{{{{define {path:?}}}}}{template}{{{{end}}}}");
        }
    }
    let itself: Arc<OnceLock<Weak<Template>>> = Arc::default();
    // Helm takes what no file of values has for nothing; here it is a mistake of the template.
    let set = Template::new("chart").missing_key(MissingKey::Error).funcs(functions(&itself));
    let set = Arc::new(set.parse(&source)?);
    let _ = itself.set(Arc::downgrade(&set));
    Ok(set)
}

/// Data of a template. Helm reads every number as floating point, and prints it so.
fn data(value: &Value) -> Data {
    match value {
        Value::Null => Data::Nil,
        Value::Bool(value) => Data::Bool(*value),
        Value::Number(number) => Data::Float(number.as_f64().unwrap()),
        Value::String(text) => Data::String(text.as_str().into()),
        Value::Array(items) => Data::List(items.iter().map(data).collect()),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.as_str().into(), data(value)));
            Data::Map(Arc::new(fields.collect()))
        }
    }
}

fn json(data: &Data) -> Value {
    match data {
        Data::Bool(value) => Value::Bool(*value),
        Data::Int(value) => Value::from(*value),
        Data::Float(value) if value.fract() == 0.0 => Value::from(*value as i64),
        Data::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Data::String(text) => Value::from(&**text),
        Data::List(items) => Value::Array(items.iter().map(json).collect()),
        Data::Map(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.to_string(), json(value)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

fn string(text: impl Into<String>) -> Result<Data, TemplateError> {
    Ok(Data::String(text.into().into()))
}

/// Go's kinds.
fn kind(data: &Data) -> &'static str {
    match data {
        Data::Bool(_) => "bool",
        Data::Float(_) => "float64",
        Data::Int(_) => "int64",
        Data::String(_) => "string",
        Data::List(_) => "slice",
        Data::Map(_) => "map",
        _ => "invalid",
    }
}

fn to_yaml(data: &Data) -> String {
    serde_saphyr::to_string(&json(data)).unwrap().trim_end().to_owned()
}

fn indent(width: &Data, text: &Data) -> String {
    let margin = " ".repeat(usize::try_from(width.as_int().unwrap()).unwrap());
    // Empty lines too, as Helm does.
    text.to_string().split('\n').map(|line| format!("\n{margin}{line}")).collect()
}

fn dict(pairs: &[Data]) -> Data {
    let pairs = pairs.chunks(2).map(|pair| (pair[0].to_string().as_str().into(), pair[1].clone()));
    Data::Map(Arc::new(pairs.collect()))
}

/// Files of one folder that end in one way: `files/rules/*.yaml`.
fn glob(pattern: &str) -> Data {
    let (folder, ending) = pattern.split_once('*').unwrap();
    let known = files(folder.trim_end_matches('/')).into_iter();
    let matching = known.filter(|(path, _)| {
        let name = path.strip_prefix(folder).unwrap();
        name.ends_with(ending) && !name.contains('/')
    });
    let matching = matching.map(|(path, text)| (path.as_str().into(), Data::String(text.into())));
    Data::Map(Arc::new(matching.collect()))
}

/// One of Helm's.
type Function = fn(&[Data]) -> Result<Data, TemplateError>;

fn functions(itself: &Arc<OnceLock<Weak<Template>>>) -> FuncMap {
    let itself = Arc::clone(itself);
    let include: ValueFunc = Arc::new(move |args| {
        let set = itself.get().and_then(Weak::upgrade).expect("parsed");
        string(set.execute_template_to_string(&args[0].to_string(), &args[1])?)
    });
    // A value that is piped comes last.
    let plain: [(&str, Function); 18] = [
        ("base", |args| string(args[0].to_string().rsplit('/').next().unwrap_or_default())),
        ("default", |args| Ok(if args[1].is_truthy() { args[1].clone() } else { args[0].clone() })),
        ("dict", |args| Ok(dict(args))),
        ("fail", |args| Err(TemplateError::Exec(args[0].to_string()))),
        ("filesGet", |args| string(text(Path::new(CHART).join(args[0].to_string())))),
        ("filesGlob", |args| Ok(glob(&args[0].to_string()))),
        ("int64", |args| Ok(Data::Int(json(&args[0]).as_i64().unwrap()))),
        ("join", |args| {
            let Data::List(items) = &args[1] else { panic!("not a list: {}", args[1]) };
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            string(items.join(&args[0].to_string()))
        }),
        ("kindIs", |args| Ok(Data::Bool(args[0].to_string() == kind(&args[1])))),
        ("nindent", |args| string(indent(&args[0], &args[1]))),
        ("quote", |args| string(format!("{:?}", args[0].to_string()))),
        ("replace", |args| {
            string(args[2].to_string().replace(&args[0].to_string(), &args[1].to_string()))
        }),
        ("ternary", |args| Ok(args[if args[2].is_truthy() { 0 } else { 1 }].clone())),
        ("toJson", |args| string(json(&args[0]).to_string())),
        ("toString", |args| string(args[0].to_string())),
        ("toYaml", |args| string(to_yaml(&args[0]))),
        ("trimSuffix", |args| {
            let text = args[1].to_string();
            string(text.strip_suffix(&args[0].to_string()).unwrap_or(&text))
        }),
        ("upper", |args| string(args[0].to_string().to_uppercase())),
    ];
    let plain = plain.map(|(name, function)| (name.to_owned(), Arc::new(function) as ValueFunc));
    plain.into_iter().chain([("include".to_owned(), include)]).collect()
}
