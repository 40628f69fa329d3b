//! The XTCP state machine, sans-IO: frames, commands and times in; frames, events and deadlines out.
