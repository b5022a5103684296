//! What a dashboard is made of, before it is JSON.

/// A page.
pub(super) struct Dashboard {
    /// Where it is found: links and file names have it.
    pub(super) uid: &'static str,
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) scope: Scope,
    pub(super) rows: Vec<Row>,
}

/// What one chooses at the top of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Nodes,
    /// Namespaces and workloads too.
    Workloads,
}

pub(super) struct Row {
    pub(super) title: &'static str,
    pub(super) panels: Vec<Panel>,
}

pub(super) struct Panel {
    pub(super) title: &'static str,
    /// What is seen, and what it means where it is bad.
    pub(super) description: &'static str,
    pub(super) shape: Shape,
    pub(super) unit: Unit,
    pub(super) queries: Vec<Query>,
    /// Values from which on it is a warning, and an error.
    pub(super) warning: Option<f64>,
    pub(super) error: Option<f64>,
    /// Columns of 24.
    pub(super) width: u32,
    /// What is said in place of an empty panel.
    pub(super) without_data: Option<&'static str>,
}

pub(super) struct Query {
    pub(super) expression: String,
    /// Name of a line or number, or of a table's column.
    pub(super) name: &'static str,
    /// Of a table's column, where it is not the panel's.
    pub(super) unit: Option<Unit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Lines,
    /// Lines that sum up.
    Stack,
    /// A number, with its course behind it.
    Number,
    /// A row per label set, a column per query.
    Table,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    BytesPerSecond,
    Celsius,
    Count,
    Hertz,
    /// Nanoseconds.
    Nanos,
    PacketsPerSecond,
    PerSecond,
    /// 0 to 1, shown in per cent.
    Ratio,
    Seconds,
    Watts,
}

impl Unit {
    /// Grafana's word.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "Bps",
            Self::Celsius => "celsius",
            Self::Count => "short",
            Self::Hertz => "hertz",
            Self::Nanos => "ns",
            Self::PacketsPerSecond => "pps",
            Self::PerSecond => "cps",
            Self::Ratio => "percentunit",
            Self::Seconds => "s",
            Self::Watts => "watt",
        }
    }
}

impl Panel {
    pub(super) fn lines(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Lines, 12, title, unit, description)
    }

    pub(super) fn stack(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Stack, 12, title, unit, description)
    }

    pub(super) fn number(title: &'static str, unit: Unit, description: &'static str) -> Self {
        Self::new(Shape::Number, 4, title, unit, description)
    }

    pub(super) fn table(title: &'static str, description: &'static str) -> Self {
        Self::new(Shape::Table, 24, title, Unit::Count, description)
    }

    fn new(
        shape: Shape,
        width: u32,
        title: &'static str,
        unit: Unit,
        description: &'static str,
    ) -> Self {
        Self {
            title,
            description,
            shape,
            unit,
            queries: Vec::new(),
            warning: None,
            error: None,
            width,
            without_data: None,
        }
    }

    /// Adds what is drawn under a name, in which `{{label}}` stands for a label.
    pub(super) fn query(mut self, name: &'static str, expression: impl Into<String>) -> Self {
        self.queries.push(Query { expression: expression.into(), name, unit: None });
        self
    }

    /// Adds a table's column.
    pub(super) fn column(
        mut self,
        name: &'static str,
        unit: Unit,
        expression: impl Into<String>,
    ) -> Self {
        self.queries.push(Query { expression: expression.into(), name, unit: Some(unit) });
        self
    }

    pub(super) const fn warn_from(mut self, value: f64) -> Self {
        self.warning = Some(value);
        self
    }

    pub(super) const fn fail_from(mut self, value: f64) -> Self {
        self.error = Some(value);
        self
    }

    pub(super) const fn wide(mut self, columns: u32) -> Self {
        self.width = columns;
        self
    }

    pub(super) const fn without_data(mut self, reason: &'static str) -> Self {
        self.without_data = Some(reason);
        self
    }
}
