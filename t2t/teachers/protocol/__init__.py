"""The protocol `t2t-teacher/1`, by which a program in any language is a teacher (docs/teachers/protocol.md)."""
