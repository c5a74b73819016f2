/** A chat template that is wrong, refuses the messages, or takes more time or memory than a template may. */
export class TemplateError extends Error {
  override readonly name: string = "TemplateError";
}
