//! What the administration says of a rule: which messages a subscription gets, and what becomes of them.
//!
//! JS looks for the attribute `i:type` by these letters, cuts the first five characters off the type of a value, and
//! takes an action for granted: so values are of `d6p1:…`, and there is an `EmptyRuleAction` where nothing is done.

use mente_engine::{Shown, Timestamp};

use super::atom::{Description, Fields};
use super::xml::{self, Element, Wrong};

const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema";
/// Of SQL, in which the service tells its own version.
const COMPATIBILITY_LEVEL: &str = "20";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleDescription {
    pub filter: Option<Filter>,
    /// Written as one that does nothing if there is none.
    pub action: Option<Sql>,
    pub created: Option<Timestamp>,
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    True,
    False,
    Sql(Sql),
    Correlation(Box<Correlation>),
}

/// An expression and the parameters in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sql {
    pub expression: String,
    pub parameters: Vec<(String, Typed)>,
}

/// What a message must equal; what is not said may be anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Correlation {
    pub correlation_id: Option<String>,
    pub message_id: Option<String>,
    pub to: Option<String>,
    pub reply_to: Option<String>,
    pub label: Option<String>,
    pub session_id: Option<String>,
    pub reply_to_session_id: Option<String>,
    pub content_type: Option<String>,
    pub properties: Vec<(String, Typed)>,
}

/// A value with the type that XML Schema has for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    String(String),
    Int(i32),
    Long(i64),
    Double(f64),
    Boolean(bool),
    /// As it was written: Python says no time zone.
    DateTime(String),
    /// As it was written.
    Duration(String),
}

impl Description for RuleDescription {
    const ELEMENT: &'static str = "RuleDescription";

    fn fields(&mut self, fields: &mut dyn Fields) {
        fields.filter("Filter", &mut self.filter);
        fields.action("Action", &mut self.action);
        fields.time("CreatedAt", &mut self.created);
        fields.text("Name", &mut self.name);
    }
}

impl Filter {
    pub(super) fn read(element: &Element) -> Result<Self, Wrong> {
        Ok(match kind(element)? {
            "TrueFilter" => Self::True,
            "FalseFilter" => Self::False,
            "SqlFilter" => Self::Sql(Sql::read(element)?),
            "CorrelationFilter" => Self::Correlation(Box::new(Correlation::read(element)?)),
            other => return Err(Wrong(format!("Filter: a {} is not known", Shown(other)))),
        })
    }

    pub(super) fn write(&self, out: &mut String, name: &str) {
        let constant = |expression: &str| Sql {
            expression: expression.to_owned(),
            parameters: Vec::new(),
        };
        match self {
            Self::True => constant("1=1").write(out, name, "TrueFilter"),
            Self::False => constant("1=0").write(out, name, "FalseFilter"),
            Self::Sql(sql) => sql.write(out, name, "SqlFilter"),
            Self::Correlation(correlation) => correlation.write(out, name),
        }
    }
}

/// Reads the element of an action; none does nothing.
pub(super) fn read_action(element: &Element) -> Result<Option<Sql>, Wrong> {
    match kind(element)? {
        "EmptyRuleAction" => Ok(None),
        "SqlRuleAction" => Sql::read(element).map(Some),
        other => Err(Wrong(format!("Action: a {} is not known", Shown(other)))),
    }
}

pub(super) fn write_action(out: &mut String, name: &str, action: Option<&Sql>) {
    match action {
        Some(sql) => sql.write(out, name, "SqlRuleAction"),
        None => out.push_str(&format!("<{name} i:type=\"EmptyRuleAction\"/>")),
    }
}

impl Sql {
    fn read(element: &Element) -> Result<Self, Wrong> {
        let expression = element.child("SqlExpression");
        let expression = expression.map(|child| child.text.clone());
        Ok(Self {
            expression: expression.ok_or_else(|| Wrong("no SqlExpression".to_owned()))?,
            parameters: read_values(element.child("Parameters"))?,
        })
    }

    fn write(&self, out: &mut String, name: &str, kind: &str) {
        out.push_str(&format!("<{name} i:type=\"{kind}\">"));
        xml::write(out, "SqlExpression", &self.expression);
        xml::write(out, "CompatibilityLevel", COMPATIBILITY_LEVEL);
        write_values(out, "Parameters", &self.parameters);
        out.push_str(&format!("</{name}>"));
    }
}

impl Correlation {
    /// In the order of the service.
    pub(super) fn texts(&mut self) -> [(&'static str, &mut Option<String>); 8] {
        [
            ("CorrelationId", &mut self.correlation_id),
            ("MessageId", &mut self.message_id),
            ("To", &mut self.to),
            ("ReplyTo", &mut self.reply_to),
            ("Label", &mut self.label),
            ("SessionId", &mut self.session_id),
            ("ReplyToSessionId", &mut self.reply_to_session_id),
            ("ContentType", &mut self.content_type),
        ]
    }

    fn read(element: &Element) -> Result<Self, Wrong> {
        let mut read = Self {
            properties: read_values(element.child("Properties"))?,
            ..Self::default()
        };
        for (name, text) in read.texts() {
            let said = element.child(name).filter(|child| !child.is_nil());
            *text = said.map(|child| child.text.clone());
        }
        Ok(read)
    }

    fn write(&self, out: &mut String, name: &str) {
        out.push_str(&format!("<{name} i:type=\"CorrelationFilter\">"));
        for (name, text) in self.clone().texts() {
            if let Some(text) = text {
                xml::write(out, name, text);
            }
        }
        write_values(out, "Properties", &self.properties);
        out.push_str(&format!("</{name}>"));
    }
}

fn kind(element: &Element) -> Result<&str, Wrong> {
    let kind = element.attribute("type").map(xml::local);
    kind.ok_or_else(|| Wrong(format!("{}: it says no type", element.name)))
}

fn read_values(element: Option<&Element>) -> Result<Vec<(String, Typed)>, Wrong> {
    let Some(element) = element else {
        return Ok(Vec::new());
    };
    let pairs = element.children.iter();
    let read = pairs.map(|pair| {
        let (Some(key), Some(value)) = (pair.child("Key"), pair.child("Value")) else {
            return Err(Wrong(format!("{}: Key and Value are wanted", element.name)));
        };
        Ok((key.text.clone(), Typed::read(value)?))
    });
    read.collect()
}

fn write_values(out: &mut String, name: &str, values: &[(String, Typed)]) {
    if values.is_empty() {
        out.push_str(&format!("<{name}/>"));
        return;
    }
    out.push_str(&format!("<{name}>"));
    for (key, value) in values {
        out.push_str("<KeyValueOfstringanyType>");
        xml::write(out, "Key", key);
        let (kind, text) = value.told();
        let element = format!("Value i:type=\"d6p1:{kind}\" xmlns:d6p1=\"{SCHEMA}\"");
        xml::write(out, &element, &text);
        out.push_str("</KeyValueOfstringanyType>");
    }
    out.push_str(&format!("</{name}>"));
}

impl Typed {
    fn read(element: &Element) -> Result<Self, Wrong> {
        Self::parse(kind(element)?, &element.text)
    }

    /// The value of this type that has the text.
    pub(super) fn parse(kind: &str, text: &str) -> Result<Self, Wrong> {
        let read = match kind {
            "string" => Some(Self::String(text.to_owned())),
            "int" => text.trim().parse().ok().map(Self::Int),
            "long" => text.trim().parse().ok().map(Self::Long),
            "double" => text.trim().parse().ok().map(Self::Double),
            "boolean" => text.trim().parse().ok().map(Self::Boolean),
            "dateTime" => Some(Self::DateTime(text.to_owned())),
            "duration" => Some(Self::Duration(text.to_owned())),
            other => {
                return Err(Wrong(format!(
                    "Value: the type {} is not known",
                    Shown(other)
                )));
            }
        };
        read.ok_or_else(|| Wrong(format!("Value: no {kind}")))
    }

    pub(super) fn told(&self) -> (&'static str, String) {
        match self {
            Self::String(text) => ("string", text.clone()),
            Self::Int(number) => ("int", number.to_string()),
            Self::Long(number) => ("long", number.to_string()),
            // XML Schema's word.
            Self::Double(number) => ("double", number.to_string().replace("inf", "INF")),
            Self::Boolean(flag) => ("boolean", flag.to_string()),
            Self::DateTime(text) => ("dateTime", text.clone()),
            Self::Duration(text) => ("duration", text.clone()),
        }
    }
}
