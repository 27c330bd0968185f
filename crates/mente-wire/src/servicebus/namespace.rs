//! What the administration says of the namespace.

use mente_engine::Timestamp;

use super::atom::{Description, Fields};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceInfo {
    pub alias: Option<String>,
    pub created: Option<Timestamp>,
    pub sku: Option<String>,
    pub units: Option<u64>,
    pub modified: Option<Timestamp>,
    pub name: Option<String>,
    pub kind: Option<String>,
}

impl Description for NamespaceInfo {
    const ELEMENT: &'static str = "NamespaceInfo";

    fn fields(&mut self, fields: &mut dyn Fields) {
        fields.text("Alias", &mut self.alias);
        fields.time("CreatedTime", &mut self.created);
        fields.text("MessagingSKU", &mut self.sku);
        fields.number("MessagingUnits", &mut self.units);
        fields.time("ModifiedTime", &mut self.modified);
        fields.text("Name", &mut self.name);
        fields.text("NamespaceType", &mut self.kind);
    }
}
