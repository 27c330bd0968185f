//! The descriptors of the standard's own types: a number, and a symbol that means the same
//! (part 1 §1.5; the numbers are those of the domain 0).

// Part 2 §2.7.
pub(super) const OPEN: u64 = 0x10;
pub(super) const BEGIN: u64 = 0x11;
pub(super) const ATTACH: u64 = 0x12;
pub(super) const FLOW: u64 = 0x13;
pub(super) const TRANSFER: u64 = 0x14;
pub(super) const DISPOSITION: u64 = 0x15;
pub(super) const DETACH: u64 = 0x16;
pub(super) const END: u64 = 0x17;
pub(super) const CLOSE: u64 = 0x18;
/// §2.8.14.
pub(super) const ERROR: u64 = 0x1d;
// Part 3 §3.4 and §3.5.
pub(super) const RECEIVED: u64 = 0x23;
pub(super) const ACCEPTED: u64 = 0x24;
pub(super) const REJECTED: u64 = 0x25;
pub(super) const RELEASED: u64 = 0x26;
pub(super) const MODIFIED: u64 = 0x27;
pub(super) const SOURCE: u64 = 0x28;
pub(super) const TARGET: u64 = 0x29;
// Part 4 §4.5.
pub(super) const COORDINATOR: u64 = 0x30;
pub(super) const DECLARE: u64 = 0x31;
pub(super) const DISCHARGE: u64 = 0x32;
pub(super) const DECLARED: u64 = 0x33;
pub(super) const TRANSACTIONAL_STATE: u64 = 0x34;
// Part 5 §5.3.3.
pub(super) const SASL_MECHANISMS: u64 = 0x40;
pub(super) const SASL_INIT: u64 = 0x41;
pub(super) const SASL_CHALLENGE: u64 = 0x42;
pub(super) const SASL_RESPONSE: u64 = 0x43;
pub(super) const SASL_OUTCOME: u64 = 0x44;
// Part 3 §3.2.
pub(super) const HEADER: u64 = 0x70;
pub(super) const DELIVERY_ANNOTATIONS: u64 = 0x71;
pub(super) const MESSAGE_ANNOTATIONS: u64 = 0x72;
pub(super) const PROPERTIES: u64 = 0x73;
pub(super) const APPLICATION_PROPERTIES: u64 = 0x74;
pub(super) const DATA: u64 = 0x75;
pub(super) const SEQUENCE: u64 = 0x76;
pub(super) const VALUE: u64 = 0x77;
pub(super) const FOOTER: u64 = 0x78;

/// The number of a descriptor that came as a symbol; none if it is not of the standard.
pub(super) fn of_symbol(symbol: &str) -> Option<u64> {
    Some(match symbol {
        "amqp:open:list" => OPEN,
        "amqp:begin:list" => BEGIN,
        "amqp:attach:list" => ATTACH,
        "amqp:flow:list" => FLOW,
        "amqp:transfer:list" => TRANSFER,
        "amqp:disposition:list" => DISPOSITION,
        "amqp:detach:list" => DETACH,
        "amqp:end:list" => END,
        "amqp:close:list" => CLOSE,
        "amqp:error:list" => ERROR,
        "amqp:received:list" => RECEIVED,
        "amqp:accepted:list" => ACCEPTED,
        "amqp:rejected:list" => REJECTED,
        "amqp:released:list" => RELEASED,
        "amqp:modified:list" => MODIFIED,
        "amqp:source:list" => SOURCE,
        "amqp:target:list" => TARGET,
        "amqp:coordinator:list" => COORDINATOR,
        "amqp:declare:list" => DECLARE,
        "amqp:discharge:list" => DISCHARGE,
        "amqp:declared:list" => DECLARED,
        "amqp:transactional-state:list" => TRANSACTIONAL_STATE,
        "amqp:sasl-mechanisms:list" => SASL_MECHANISMS,
        "amqp:sasl-init:list" => SASL_INIT,
        "amqp:sasl-challenge:list" => SASL_CHALLENGE,
        "amqp:sasl-response:list" => SASL_RESPONSE,
        "amqp:sasl-outcome:list" => SASL_OUTCOME,
        "amqp:header:list" => HEADER,
        "amqp:delivery-annotations:map" => DELIVERY_ANNOTATIONS,
        "amqp:message-annotations:map" => MESSAGE_ANNOTATIONS,
        "amqp:properties:list" => PROPERTIES,
        "amqp:application-properties:map" => APPLICATION_PROPERTIES,
        "amqp:data:binary" => DATA,
        "amqp:amqp-sequence:list" => SEQUENCE,
        "amqp:amqp-value:*" => VALUE,
        "amqp:footer:map" => FOOTER,
        _ => return None,
    })
}
