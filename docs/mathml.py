"""Formulas as MathML, which browsers draw by themselves: no script and no font is loaded when a page is read."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def _mathml(formula, **options):
    """`log p` has a little space in it, which browsers leave out."""
    space = '<mspace width="0.1667em"></mspace>'
    return tex2mathml(formula, **options).replace("<mo>&ApplyFunction;</mo>", f"<mo>&ApplyFunction;</mo>{space}")


def _inline(translator, node):
    translator.body.append(_mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator, node):
    translator.body.append(f'<div class="formula">{_mathml(node.astext(), as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}
