//! A dashboard as Grafana's JSON, for Grafana 10.3 and later.

use serde_json::{Value, json};

use super::model::{Dashboard, Panel, Query, Row, Scope, Shape, Unit};

/// Of the JSON.
const SCHEMA: u32 = 39;
/// Columns of a page.
const COLUMNS: u32 = 24;
/// What tells these dashboards from others: the links at the top are made of it.
const TAG: &str = "orb8";
/// Where a namespace or workload in a table leads.
const WORKLOAD_PAGE: &str = "/d/orb8-workload?${datasource:queryparam}&${node:queryparam}\
    &var-namespace=${__data.fields.namespace}&var-workload=${__data.fields.workload}&${__url_time_range}";
/// Where a node in a table leads.
const AGENT_PAGE: &str =
    "/d/orb8-agents?${datasource:queryparam}&var-node=${__data.fields.node}&${__url_time_range}";

pub(super) fn render(dashboard: &Dashboard) -> Value {
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "fiscalYearStartMonth": 0,
        // One crosshair for all panels.
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [annotations()]},
        "links": [link()],
        "templating": {"list": variables(dashboard.scope)},
        "panels": panels(&dashboard.rows),
    })
}

/// Grafana's own: what people noted.
fn annotations() -> Value {
    json!({
        "builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": true,
        "hide": true, "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts",
        "type": "dashboard",
    })
}

/// To the other dashboards, with what was chosen here.
fn link() -> Value {
    json!({
        "type": "dashboards", "title": "orb8", "tags": [TAG], "asDropdown": false, "icon": "",
        "includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "", "url": "",
    })
}

fn variables(scope: Scope) -> Vec<Value> {
    let nodes = variable("node", "Node", "label_values(orb8_agent_build_info, node)");
    let mut variables = vec![
        json!({
            "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
            "current": {}, "hide": 0, "includeAll": false, "multi": false, "options": [], "refresh": 1,
            "regex": "", "skipUrlSync": false,
        }),
        nodes,
    ];
    if scope == Scope::Workloads {
        let namespaces = "label_values(orb8_flow_packets_total{node=~\"$node\"}, namespace)";
        let workloads = "label_values(orb8_flow_packets_total{node=~\"$node\", \
            namespace=~\"$namespace\"}, workload)";
        variables.push(variable("namespace", "Namespace", namespaces));
        variables.push(variable("workload", "Workload", workloads));
    }
    variables
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "type": "query", "name": name, "label": label, "datasource": data_source(),
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        // What has no such label is part of all.
        "includeAll": true, "allValue": ".*", "multi": true,
        "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
        "hide": 0, "options": [], "refresh": 2, "regex": "", "skipUrlSync": false, "sort": 1,
    })
}

fn data_source() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// Rows from the top, panels from the left.
fn panels(rows: &[Row]) -> Vec<Value> {
    let (mut rendered, mut top) = (Vec::new(), 0);
    for row in rows {
        let id = rendered.len() + 1;
        rendered.push(json!({
            "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
        }));
        top += 1;
        let (mut left, mut tallest) = (0, 0);
        for panel in &row.panels {
            if left + panel.width > COLUMNS {
                (left, top, tallest) = (0, top + tallest, 0);
            }
            let height = height(panel.shape);
            let mut value = render_panel(panel);
            value["id"] = json!(rendered.len() + 1);
            value["gridPos"] = json!({"h": height, "w": panel.width, "x": left, "y": top});
            rendered.push(value);
            left += panel.width;
            tallest = tallest.max(height);
        }
        top += tallest;
    }
    rendered
}

const fn height(shape: Shape) -> u32 {
    match shape {
        Shape::Number => 4,
        Shape::Lines | Shape::Stack => 8,
        Shape::Table => 10,
    }
}

fn render_panel(panel: &Panel) -> Value {
    let mut value = json!({
        "title": panel.title, "description": panel.description, "datasource": data_source(),
        "fieldConfig": {"defaults": defaults(panel), "overrides": []},
    });
    match panel.shape {
        Shape::Lines | Shape::Stack => {
            value["type"] = json!("timeseries");
            value["options"] = json!({
                "legend": {"showLegend": true, "displayMode": "table", "placement": "bottom",
                    "calcs": ["mean", "max", "lastNotNull"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            });
        }
        Shape::Number => {
            value["type"] = json!("stat");
            value["options"] = json!({
                "colorMode": "value", "graphMode": "area", "justifyMode": "auto",
                "orientation": "auto", "textMode": "auto",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
            });
        }
        Shape::Table => {
            value["type"] = json!("table");
            value["options"] = json!({
                "cellHeight": "sm", "showHeader": true,
                "footer": {"show": false, "reducer": ["sum"], "countRows": false, "fields": ""},
                "sortBy": [{"displayName": panel.queries[0].name, "desc": true}],
            });
            value["transformations"] = transformations(&panel.queries);
            value["fieldConfig"]["overrides"] = overrides(&panel.queries);
        }
    }
    let is_table = panel.shape == Shape::Table;
    let targets = panel.queries.iter().zip('A'..).map(|(query, id)| target(query, id, is_table));
    value["targets"] = targets.collect();
    value
}

fn target(query: &Query, id: char, is_table: bool) -> Value {
    let mut target = json!({
        "refId": id.to_string(), "datasource": data_source(), "editorMode": "code",
        "expr": query.expression, "instant": is_table, "range": !is_table,
    });
    if is_table {
        target["format"] = json!("table");
    } else {
        target["legendFormat"] = json!(query.name);
    }
    target
}

fn defaults(panel: &Panel) -> Value {
    let mut defaults = json!({"unit": panel.unit.id(), "thresholds": thresholds(panel)});
    if panel.shape != Shape::Table {
        defaults["min"] = json!(0);
    }
    if let Some(reason) = panel.without_data {
        defaults["noValue"] = json!(reason);
    }
    match panel.shape {
        Shape::Lines | Shape::Stack => {
            let is_stack = panel.shape == Shape::Stack;
            let has_thresholds = panel.warning.is_some() || panel.error.is_some();
            defaults["color"] = json!({"mode": "palette-classic"});
            defaults["custom"] = json!({
                "drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1,
                "fillOpacity": if is_stack { 30 } else { 5 }, "showPoints": "never",
                "spanNulls": false, "axisPlacement": "auto",
                "stacking": {"group": "A", "mode": if is_stack { "normal" } else { "none" }},
                "thresholdsStyle": {"mode": if has_thresholds { "dashed" } else { "off" }},
            });
        }
        Shape::Number => defaults["color"] = json!({"mode": "thresholds"}),
        Shape::Table => {
            defaults["custom"] = json!({"align": "auto", "cellOptions": {"type": "auto"},
                "filterable": true, "inspect": false});
        }
    }
    defaults
}

fn thresholds(panel: &Panel) -> Value {
    let mut steps = vec![json!({"color": "green", "value": null})];
    steps.extend(panel.warning.map(|value| json!({"color": "orange", "value": value})));
    steps.extend(panel.error.map(|value| json!({"color": "red", "value": value})));
    json!({"mode": "absolute", "steps": steps})
}

/// One table of all queries, whose columns have their names.
fn transformations(queries: &[Query]) -> Value {
    let names: serde_json::Map<_, _> = value_columns(queries)
        .zip(queries)
        .map(|(column, query)| (column, json!(query.name)))
        .collect();
    json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {
            "excludeByName": {"Time": true}, "indexByName": {}, "renameByName": names,
        }},
    ])
}

/// What Grafana calls the columns of the values.
fn value_columns(queries: &[Query]) -> impl Iterator<Item = String> {
    let is_alone = queries.len() == 1;
    ('A'..)
        .take(queries.len())
        .map(move |id| if is_alone { "Value".to_owned() } else { format!("Value #{id}") })
}

fn overrides(queries: &[Query]) -> Value {
    let of = |name: &str, properties: Value| json!({"matcher": {"id": "byName", "options": name}, "properties": properties});
    let unit = |query: &Query| {
        let unit = query.unit.unwrap_or(Unit::Count);
        of(query.name, json!([{"id": "unit", "value": unit.id()}]))
    };
    let link = |field: &str, title: &str, url: &str| {
        of(field, json!([{"id": "links", "value": [{"title": title, "url": url}]}]))
    };
    let links = [
        link("namespace", "Its workload in detail", WORKLOAD_PAGE),
        link("workload", "In detail", WORKLOAD_PAGE),
        link("node", "Its agent", AGENT_PAGE),
    ];
    queries.iter().map(unit).chain(links).collect()
}
