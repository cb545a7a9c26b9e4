//! As much of a schema as masking has to know.

use std::collections::BTreeMap;

/// The tables of a database, without views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    pub(super) tables: BTreeMap<String, Table>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// In the table's own order.
    pub(super) columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) is_nullable: bool,
    /// Whether it belongs to the primary key.
    pub(super) is_primary: bool,
    /// Whether it belongs to the primary key or refers to another table's.
    pub(super) is_key: bool,
    /// Whether it belongs to a unique key.
    pub(super) is_unique: bool,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    /// Something that holds no text, such as a time.
    Other,
    /// Something that may hold text in another form, such as JSON or an array.
    Composite,
}

impl Table {
    pub(super) fn primary_key(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.is_primary).collect()
    }
}
