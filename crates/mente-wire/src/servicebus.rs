//! What the clients of Service Bus say beside AMQP: shared access signatures, and the documents of the
//! administration.
//!
//! Texts in, values out, and back; which keys and entities there are is nobody's knowledge here.
//!
//! Start reading at [`sas`].

pub mod sas;
