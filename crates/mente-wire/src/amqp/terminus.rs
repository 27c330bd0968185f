//! The two ends of a link (part 3 §3.5), and the coordinator of transactions in a target's place
//! (part 4 §4.5.1).

use super::composite::{self, Composite, Field, Fields, Writer};
use super::decode::Reader;
use super::descriptor;
use super::error::Malformed;
use super::performative::unknown_choice;
use super::value::{Map, Symbol, Text, Value};

/// Where messages come from. What comes back in an answer must be the one that came but for what
/// was granted otherwise: Python compares the address, others look for their filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Of whatever form: a path, or a URI with the path in it. None with `dynamic`.
    pub address: Option<Text>,
    pub durable: Durability,
    pub expiry_policy: ExpiryPolicy,
    pub timeout_seconds: u32,
    /// Asks for a node to be made.
    pub dynamic: bool,
    pub dynamic_node_properties: Option<Map>,
    pub distribution_mode: Option<Symbol>,
    /// By name. The standard wants described values. Go sends the one for a session so, Python,
    /// JS and Java plain, and null asks for any session: the values stay as they came.
    pub filter: Option<Map>,
    /// An outcome, kept as it came: nobody here acts by it.
    pub default_outcome: Option<Value>,
    /// Descriptors of the outcomes that the receiver may choose.
    pub outcomes: Vec<Symbol>,
    pub capabilities: Vec<Symbol>,
}

/// Where messages go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// As in [`Source`]; a link for answers in JS has none.
    pub address: Option<Text>,
    pub durable: Durability,
    pub expiry_policy: ExpiryPolicy,
    pub timeout_seconds: u32,
    pub dynamic: bool,
    pub dynamic_node_properties: Option<Map>,
    pub capabilities: Vec<Symbol>,
}

/// Whoever declares and discharges transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coordinator {
    pub capabilities: Vec<Symbol>,
}

/// What stands in the target of an attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Target(Target),
    Coordinator(Coordinator),
}

/// What of a terminus outlives its connection (§3.5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    #[default]
    None,
    Configuration,
    UnsettledState,
}

/// From when on a terminus that nobody is at expires (§3.5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryPolicy {
    LinkDetach,
    #[default]
    SessionEnd,
    ConnectionClose,
    Never,
}

impl Composite for Source {
    const NAME: &'static str = "source";
    const CODE: u64 = descriptor::SOURCE;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            address: fields.get("address")?,
            durable: fields.get_or("durable", Durability::None)?,
            expiry_policy: fields.get_or("expiry-policy", ExpiryPolicy::SessionEnd)?,
            timeout_seconds: fields.get_or("timeout", 0)?,
            dynamic: fields.get_or("dynamic", false)?,
            dynamic_node_properties: fields.get("dynamic-node-properties")?,
            distribution_mode: fields.get("distribution-mode")?,
            filter: fields.get("filter")?,
            default_outcome: fields.get("default-outcome")?,
            outcomes: fields.get_or("outcomes", Vec::new())?,
            capabilities: fields.get_or("capabilities", Vec::new())?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .maybe(&self.address)
            .put(&self.durable)
            .put(&self.expiry_policy)
            .put(&self.timeout_seconds)
            .put(&self.dynamic)
            .maybe(&self.dynamic_node_properties)
            .maybe(&self.distribution_mode)
            .maybe(&self.filter)
            .maybe(&self.default_outcome)
            .put(&self.outcomes)
            .put(&self.capabilities);
    }
}

impl Composite for Target {
    const NAME: &'static str = "target";
    const CODE: u64 = descriptor::TARGET;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            address: fields.get("address")?,
            durable: fields.get_or("durable", Durability::None)?,
            expiry_policy: fields.get_or("expiry-policy", ExpiryPolicy::SessionEnd)?,
            timeout_seconds: fields.get_or("timeout", 0)?,
            dynamic: fields.get_or("dynamic", false)?,
            dynamic_node_properties: fields.get("dynamic-node-properties")?,
            capabilities: fields.get_or("capabilities", Vec::new())?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields
            .maybe(&self.address)
            .put(&self.durable)
            .put(&self.expiry_policy)
            .put(&self.timeout_seconds)
            .put(&self.dynamic)
            .maybe(&self.dynamic_node_properties)
            .put(&self.capabilities);
    }
}

impl Composite for Coordinator {
    const NAME: &'static str = "coordinator";
    const CODE: u64 = descriptor::COORDINATOR;

    fn read(fields: &mut Fields<'_, '_>) -> Result<Self, Malformed> {
        Ok(Self {
            capabilities: fields.get_or("capabilities", Vec::new())?,
        })
    }

    fn write(&self, fields: &mut Writer<'_>) {
        fields.put(&self.capabilities);
    }
}

impl Field for Destination {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(Some(match composite::read_descriptor(reader)? {
            None => return Ok(None),
            Some(descriptor::TARGET) => Self::Target(composite::read_fields(reader)?),
            Some(descriptor::COORDINATOR) => Self::Coordinator(composite::read_fields(reader)?),
            Some(_) => return Err(composite::unknown(reader)),
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Target(target) => composite::write(target, out),
            Self::Coordinator(coordinator) => composite::write(coordinator, out),
        }
    }
}

impl Field for Durability {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(Some(match u32::read(reader)? {
            None => return Ok(None),
            Some(0) => Self::None,
            Some(1) => Self::Configuration,
            Some(2) => Self::UnsettledState,
            Some(_) => return Err(unknown_choice(reader)),
        }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let choice: u32 = match self {
            Self::None => 0,
            Self::Configuration => 1,
            Self::UnsettledState => 2,
        };
        choice.write(out);
    }
}

impl ExpiryPolicy {
    const fn name(self) -> &'static str {
        match self {
            Self::LinkDetach => "link-detach",
            Self::SessionEnd => "session-end",
            Self::ConnectionClose => "connection-close",
            Self::Never => "never",
        }
    }
}

impl Field for ExpiryPolicy {
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let Some(name) = Symbol::read(reader)? else {
            return Ok(None);
        };
        let mut known = [
            Self::LinkDetach,
            Self::SessionEnd,
            Self::ConnectionClose,
            Self::Never,
        ]
        .into_iter();
        let policy = known.find(|policy| policy.name() == name.as_str());
        policy.map(Some).ok_or_else(|| unknown_choice(reader))
    }

    fn write(&self, out: &mut Vec<u8>) {
        Symbol::from_static(self.name()).write(out);
    }
}
