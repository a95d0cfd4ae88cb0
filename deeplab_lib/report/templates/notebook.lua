-- A pandoc reader: the manuscript (JSON) of manuscript.py becomes a pandoc document in which every figure, table and
-- equation carries its number and every reference its text, so that all formats print the same numbers.

-- Jupyter's Markdown: no indented example lists, no "(a)" lists, no tables made of dashes, no ~subscripts~.
local MARKDOWN = 'markdown+lists_without_preceding_blankline+autolink_bare_uris+tex_math_double_backslash'
  .. '-yaml_metadata_block-pandoc_title_block-blank_before_header-blank_before_blockquote-fancy_lists-example_lists'
  .. '-multiline_tables-simple_tables-grid_tables-subscript-superscript-line_blocks-markdown_in_html_blocks'
  .. '-native_divs-native_spans-definition_lists-implicit_header_references'
local HTML = 'html+tex_math_dollars'

local tables = dofile(pandoc.path.join({ pandoc.path.directory(PANDOC_SCRIPT_FILE), 'tables.lua' }))

local ELEMENT = { sub = pandoc.Subscript, sup = pandoc.Superscript, b = pandoc.Strong, strong = pandoc.Strong,
  i = pandoc.Emph, em = pandoc.Emph, u = pandoc.Underline, s = pandoc.Strikeout, del = pandoc.Strikeout }
local KIND = { fig = 'Figure', tbl = 'Table', eq = 'Equation', sec = 'Section' }

local cell_number -- of the cell that is being read

local function warn(message)
  io.stderr:write('report: ' .. (cell_number and 'cell ' .. cell_number .. ': ' or '') .. message .. '\n')
end

-- In a sandbox: nothing that is named in the text is fetched or opened.
local function read(text, format) return pandoc.read(text, format, nil, {}) end

-- No line ends between a number and its per cent sign, or beside a ×.
local function unbroken(list)
  for i = 2, #list - 1 do
    local before, after = list[i - 1].text or '', list[i + 1].text or ''
    local unit = before:match('%d$') and (after:match('^%%') or after == '×') or before == '×' and after:match('^%d')
    if unit and (list[i].t == 'Space' or list[i].t == 'SoftBreak') then list[i] = pandoc.Str('\u{a0}') end
  end
  return list
end

-- A macro defined in one cell holds in all that follow, as it does on Jupyter's page.
local macros = ''
local DEFINITIONS = { '\\%a*newcommand%*?%s*%b{}%s*%b[]%s*%b{}', '\\%a*newcommand%*?%s*%b{}%s*%b{}',
  '\\DeclareMathOperator%*?%s*%b{}%s*%b{}', '\\def%s*\\%a+%s*%b{}' }

local function with_macros(text)
  for _, pattern in ipairs(DEFINITIONS) do
    text = text:gsub(pattern, function(definition)
      macros = macros .. definition .. '\n'
      return ''
    end)
  end
  return macros .. '\n' .. text:gsub('%$%$%s*%$%$', '')
end

local function normal_id(id) return (id:gsub(':', '-')) end
local function kind_of(id) return id:match('^(%a+)[-:]') end

-- Raw HTML and raw TeX ------------------------------------------------------------------------------------------

-- `\begin{align}` without dollars is a formula for Jupyter and raw TeX for pandoc, which would drop it.
local function tex_inline(text)
  if text:match('^\\begin') then return pandoc.Math('DisplayMath', text) end
  local name, keys = text:match('^\\(%a+)%s*{([^}]*)}$')
  if name == 'ref' or name == 'eqref' or name == 'cref' or name == 'cite' or name == 'citep' then
    local citations = pandoc.List()
    for key in keys:gmatch('[^,%s]+') do
      local mode = (name == 'ref' or name == 'eqref') and 'SuppressAuthor' or 'NormalCitation'
      citations:insert(pandoc.Citation(normal_id(key), mode))
    end
    return pandoc.Cite({ pandoc.Str(text) }, citations)
  end
  if not text:match('^%s*\\%a*newcommand') and not text:match('^%s*\\[dD]e') then
    warn('TeX outside of a formula is left out: ' .. text:gsub('%s+', ' '))
  end
  return {}
end

local function anchor(tag)
  return tag:match('%sid%s*=%s*["\']([^"\']+)') or tag:match('%sname%s*=%s*["\']([^"\']+)')
end

-- Pairs of inline tags, such as <sub>..</sub>, become elements; other inline HTML is dropped, its text stays.
local function html_inlines(list)
  local stack = { { items = pandoc.List() } }
  for _, item in ipairs(list) do
    local tag = item.t == 'RawInline' and item.format == 'html' and item.text or nil
    local closing, name = (tag or ''):match('^<(/?)(%a%w*)')
    name = name and name:lower()
    if not tag then
      stack[#stack].items:insert(item)
    elseif name == 'br' then
      stack[#stack].items:insert(pandoc.LineBreak())
    elseif name == 'img' then
      stack[#stack].items:extend(pandoc.utils.blocks_to_inlines(read(tag, HTML).blocks))
    elseif name == 'a' and anchor(tag) then
      stack[#stack].items:insert(pandoc.Span({}, pandoc.Attr(anchor(tag), { 'anchor' })))
    elseif name and (ELEMENT[name] or name == 'a') and closing == '' then
      table.insert(stack, { name = name, items = pandoc.List(), target = tag:match('%shref%s*=%s*["\']([^"\']+)') })
    elseif name and closing == '/' and stack[#stack].name == name then
      local top = table.remove(stack)
      local items = pandoc.Inlines(top.items)
      if top.target then
        stack[#stack].items:insert(pandoc.Link(items:walk({ Link = function(link) return link.content end }), top.target))
      elseif ELEMENT[name] then
        stack[#stack].items:insert(ELEMENT[name](items))
      else
        stack[#stack].items:extend(items)
      end
    end
  end
  while #stack > 1 do
    local top = table.remove(stack)
    stack[#stack].items:extend(top.items)
  end
  return stack[1].items
end

local WRAPPER = { div = true, details = true, center = true, section = true, article = true, span = true, p = true }
local html_blocks

local RAW = {
  RawInline = function(raw) if raw.format == 'tex' then return tex_inline(raw.text) end end,
  RawBlock = function(raw)
    if raw.format == 'tex' then
      local inline = tex_inline(raw.text)
      return inline.t and pandoc.Para({ inline }) or {}
    end
    if raw.format == 'html' then return html_blocks(raw.text) end
    warn('a block of raw ' .. raw.format .. ' is left out')
    return pandoc.Para({ pandoc.Emph({ pandoc.Str('[raw ' .. raw.format .. ' left out]') }) })
  end,
}

local function markdown(text)
  return read(text, MARKDOWN).blocks:walk(RAW):walk({ Inlines = html_inlines }):walk({ Inlines = unbroken })
end
local function inlines(text) return pandoc.utils.blocks_to_inlines(markdown(text), { pandoc.Space() }) end

-- As in Jupyter, what stands between empty lines within <div>, <details> or <center> is Markdown.
function html_blocks(text)
  local tag, inner, rest = text:match('^%s*<(%a+)[^>]*>(.*)</(%a+)>%s*$')
  if tag and tag == rest and WRAPPER[tag:lower()] and inner:match('\n%s*\n') then return markdown(inner) end
  return read(text, HTML).blocks
end

-- Figures, tables and equations under one roof ------------------------------------------------------------------

-- A Div of class "float": the content, then a Div "caption" and a Div "note", each possibly missing.
local function float(kind, id, content, caption, note, attributes)
  local blocks = pandoc.Blocks(content)
  if caption and #caption > 0 then
    blocks:insert(pandoc.Div({ pandoc.Plain(caption) }, pandoc.Attr('', { 'caption' })))
  end
  if note and #note > 0 then blocks:insert(pandoc.Div({ pandoc.Plain(note) }, pandoc.Attr('', { 'note' }))) end
  return pandoc.Div(blocks, pandoc.Attr(id or '', { 'float', kind }, attributes or {}))
end

local function caption_of(block) return pandoc.utils.blocks_to_inlines(block.caption.long) end

local FLOATS = {
  Figure = function(block) return float('fig', block.identifier, block.content, caption_of(block)) end,
  Table = function(block)
    local caption, id = caption_of(block), block.identifier
    block.caption, block.identifier = pandoc.Caption({}), ''
    return float('tbl', id, { block }, caption)
  end,
  -- `\label{eq:x}` in the formula, or `{#eq-x}` behind it.
  Inlines = function(list)
    local out = pandoc.List()
    for _, item in ipairs(list) do
      local previous, label = out[#out], item.t == 'Str' and item.text:match('^{#(eq[-:][^}]+)}$')
      if previous and previous.t:match('Space') or previous and previous.t == 'SoftBreak' then
        previous = out[#out - 1]
      end
      if label and previous and previous.t == 'Math' then
        while out[#out] ~= previous do out:remove() end
        out[#out] = pandoc.Span({ previous }, pandoc.Attr(normal_id(label), { 'equation' }))
      elseif item.t == 'Math' and item.mathtype == 'DisplayMath' then
        local id = item.text:match('\\label%s*{([^}]*)}')
        item.text = item.text:gsub('\\label%s*{[^}]*}', ''):gsub('\\nonumber', ''):gsub('\\notag', '')
        out:insert(id and pandoc.Span({ item }, pandoc.Attr(normal_id(id), { 'equation' })) or item)
      else
        out:insert(item)
      end
    end
    return out
  end,
}

-- Words as they stand: nothing in them is markup.
local function plain(text)
  local words = pandoc.List()
  for word in text:gmatch('%S+') do
    if #words > 0 then words:insert(pandoc.Space()) end
    words:insert(pandoc.Str(word))
  end
  return pandoc.Inlines(words)
end

local function cell_blocks(cell)
  local caption, note = cell.caption and inlines(cell.caption), cell.note and inlines(cell.note)
  if cell.kind == 'markdown' then
    return markdown(with_macros(cell.text))
  elseif cell.kind == 'html' then
    return read(cell.text, HTML).blocks
  elseif cell.kind == 'figure' then
    local attributes = { width = cell.width, height = cell.height }
    local image = pandoc.Image({}, cell.file, '', pandoc.Attr('', {}, attributes))
    local alt = cell.alt or (caption and pandoc.utils.stringify(caption)) or ''
    return { float('fig', cell.label, { pandoc.Plain({ image }) }, caption, note, { alt = alt }) }
  elseif cell.kind == 'table' then
    local blocks = read(cell.html, HTML).blocks
    local own = blocks:find_if(function(block) return block.t == 'Table' end)
    caption = caption or (own and caption_of(own))
    if own then own.caption = pandoc.Caption({}) end
    return { float('tbl', cell.label, blocks, caption, note) }
  elseif cell.kind == 'missing' then
    local blocks = pandoc.Blocks({ pandoc.Para({ pandoc.Emph(plain('[' .. cell.text .. ']')) }) })
    if cell.stand_in then blocks:insert(pandoc.CodeBlock(cell.stand_in, pandoc.Attr('', { 'output' }))) end
    if not cell.label and not caption then return blocks end
    return { float('fig', cell.label, blocks, caption, note) }
  elseif cell.kind == 'code' then
    return { pandoc.CodeBlock(cell.text, pandoc.Attr('', { 'python', 'cell' })) }
  end
  return { pandoc.CodeBlock(cell.text, pandoc.Attr('', { 'output' })) }
end

-- A table of an HTML output is in its float already; every other figure and table gets one here.
local function gathered(blocks)
  return blocks:walk({
    traverse = 'topdown',
    Figure = function(block) return FLOATS.Figure(block), false end,
    Table = function(block) return FLOATS.Table(block), false end,
    Div = function(div) if div.classes:includes('float') then return div, false end end,
  }):walk({ Inlines = FLOATS.Inlines })
end

-- Formulas and columns -------------------------------------------------------------------------------------------

-- `|x|` and `\|x\|` are delimiters only to the eye: pair the bars of one group, so that they hug what they hold.
local function paired_bars(tex)
  local groups, pieces, position = { {} }, {}, 1
  while position <= #tex do
    local piece = tex:match('^\\left%s*\\?[|%a.()%[%]]', position) or tex:match('^\\right%s*\\?[|%a.()%[%]]', position)
      or tex:match('^\\[bB]ig%a*%s*\\?[|%a.()%[%]]', position) or tex:match('^\\%a+', position)
      or tex:match('^\\.', position) or tex:match('^[%z\1-\127\194-\244][\128-\191]*', position)
    position = position + #piece
    table.insert(pieces, piece)
    if piece == '{' or piece == '(' or piece == '&' then table.insert(groups, {}) end
    if (piece == '}' or piece == ')') and #groups > 1 then table.remove(groups) end
    if piece == '|' or piece == '\\|' then
      local open = groups[#groups]
      if open.at and pieces[open.at] == piece then
        pieces[open.at] = piece == '|' and '\\left|' or '\\lVert '
        pieces[#pieces] = piece == '|' and '\\right|' or '\\rVert '
        open.at = nil
      else
        open.at = #pieces
      end
    end
  end
  return table.concat(pieces)
end

-- The same formula in the dialect that both writers understand. One that neither can set is named here.
local function tidy_formula(math)
  math.text = paired_bars(math.text:gsub('\\&', '\\text{\\&}'):gsub('\\mathbbm%f[%A]', '\\mathbb')
    :gsub('\\left%s*\\|', '\\lVert '):gsub('\\right%s*\\|', '\\rVert ')
    :gsub('\\lvert%f[%A]', '\\left|'):gsub('\\rvert%f[%A]', '\\right|'))
  local problems = pandoc.log.silence(function()
    return pandoc.write(pandoc.Pandoc({ pandoc.Plain({ math }) }), 'html', { html_math_method = 'mathml' })
  end)
  local message = problems[1] and pandoc.json.decode(pandoc.json.encode(problems[1])).message
  local what = message and (message:match('unexpected ([^\n]+)') or 'a mistake')
    or math.text:match('\\%a*color%f[%A]')
  if what then warn('formula with ' .. what .. ', which cannot be set: $' .. math.text:gsub('%s+', ' ') .. '$') end
  return math
end

-- Columns of numbers are set flush right, unless the author said otherwise; long words may be broken.
local function regular_table(tbl)
  tbl = tables.break_words(tbl)
  for index, column in ipairs(tables.columns(tbl)) do
    if tbl.colspecs[index][1] == 'AlignDefault' then
      tbl.colspecs[index] = { column.numeric and index > 1 and 'AlignRight' or 'AlignLeft', tbl.colspecs[index][2] }
    end
  end
  return tbl
end

-- Names of networks, runs and images (deeplabv2_mini) stand in the type of code wherever they are named.
local function identifier(str)
  local open, name, close = str.text:match('^(%(?)(%a[%w.\u{200b}]*_[%w_.\u{200b}]*%w)([,.;:)]*)$')
  return name and name:match('%d') and { pandoc.Str(open), pandoc.Code(name), pandoc.Str(close) }
end

-- One cell or output as it stands in the document. What breaks its reader costs itself alone.
local function settled_cell(cell)
  cell_number = string.format('%d', cell.cell)
  local well, blocks = pcall(function()
    local blocks = pandoc.Blocks(cell_blocks(cell)):map(function(block)
      return block.t == 'Plain' and pandoc.Para(block.content) or block -- or it would run on into the next cell
    end)
    return gathered(pandoc.Blocks(blocks)):walk({
      Image = function(image)
        image.attributes.cell = cell_number
        return image
      end,
      Link = function(link)
        link.attributes.cell = cell_number
        return link
      end,
      Math = tidy_formula, Table = regular_table,
    }):walk({ Str = identifier })
  end)
  if well then return blocks end
  warn('it cannot be read: ' .. tostring(blocks):gsub('%s+', ' '))
  return { pandoc.CodeBlock(cell.text or cell.html or '', pandoc.Attr('', { 'output' })) }
end

-- Numbers and references ----------------------------------------------------------------------------------------

local function is_unnumbered(header)
  return header.classes:includes('unnumbered') or pandoc.utils.stringify(header):lower() == 'references'
end

-- "Appendix: Provenance" becomes section A, whatever its level-1 neighbours are numbered.
local function drop_appendix_word(header)
  local first = header.content[1]
  if header.level ~= 1 or not first or first.t ~= 'Str' or not first.text:match('^Appendix[:.]?$') then return false end
  header.content:remove(1)
  while header.content[1] and (header.content[1].t == 'Space' or header.content[1].text:match('^%u?[:.—–-]?$')) do
    header.content:remove(1)
  end
  return #header.content > 0
end

local function number_headers(blocks, targets, aliases)
  local counts, letter, appendix = { 0, 0, 0, 0, 0, 0 }, 0, false
  return blocks:walk({ Header = function(header)
    local explicit
    local words = pandoc.utils.stringify(header.content):gsub('%s', '-') -- Jupyter's name of a heading
    header.content = header.content:walk({ Span = function(span)
      if span.classes:includes('anchor') then explicit = span.identifier return {} end
    end })
    if is_unnumbered(header) then
      header.classes = { 'unnumbered' }
      aliases[words] = aliases[words] or header.identifier
      return header
    end
    if header.level == 1 then
      appendix = drop_appendix_word(header) or appendix
      if appendix then letter = letter + 1 end
    end
    counts[header.level] = counts[header.level] + 1
    for level = header.level + 1, 6 do counts[level] = 0 end
    local parts = pandoc.List()
    for level = 1, header.level do parts:insert(tostring(counts[level])) end
    if appendix then parts[1] = string.char(64 + letter) end
    header.attributes.number = table.concat(parts, '.')
    local id = explicit or header.identifier
    id = id:match('^sec%-') and id or 'sec-' .. id
    local first, count = id, 1
    while targets[id] do -- the same words head sections of several cells
      count = count + 1
      id = first .. '-' .. count
    end
    for _, name in ipairs({ words, header.identifier, explicit or '' }) do aliases[name] = aliases[name] or id end
    header.identifier = id
    targets[header.identifier] = { kind = appendix and 'Appendix' or 'Section', number = header.attributes.number }
    return header
  end })
end

local function number_floats(blocks, targets)
  local counts = { fig = 0, tbl = 0, eq = 0 }
  local function number(kind, element)
    counts[kind] = counts[kind] + 1
    element.attributes.number = tostring(counts[kind])
    local id = element.identifier
    if id ~= '' and targets[id] then
      warn('the label ' .. id .. ' is used twice: give each its own')
      element.identifier = ''
    elseif id ~= '' then targets[id] = { kind = KIND[kind], number = tostring(counts[kind]) } end
    return element
  end
  return blocks:walk({
    traverse = 'topdown',
    Div = function(div)
      local captioned = div.content:find_if(function(block) return block.t == 'Div' and block.classes[1] == 'caption' end)
      if div.classes[1] == 'float' and (captioned or div.identifier ~= '') then return number(div.classes[2], div) end
    end,
    Span = function(span) if span.classes[1] == 'equation' then return number('eq', span) end end,
  })
end

local function reference(citation, targets)
  local target = targets[normal_id(citation.id)]
  if not target then
    warn('nothing is labelled ' .. citation.id .. ', but the text refers to it')
    return pandoc.Strong({ pandoc.Str('?' .. citation.id) })
  end
  local number = target.kind == 'Equation' and '(' .. target.number .. ')' or target.number
  local text = citation.mode == 'SuppressAuthor' and number or target.kind .. '\u{a0}' .. number
  return pandoc.Link({ pandoc.Str(text) }, '#' .. normal_id(citation.id), '', pandoc.Attr('', { 'ref' }))
end

local function resolve(blocks, targets, known)
  return blocks:walk({ Cite = function(cite)
    local out, others = pandoc.List(), pandoc.List()
    for _, citation in ipairs(cite.citations) do
      if KIND[kind_of(citation.id)] and not known[citation.id] then
        if #out > 0 then out:extend({ pandoc.Str(','), pandoc.Space() }) end
        out:extend(citation.prefix)
        if #citation.prefix > 0 then out:insert(pandoc.Space()) end
        out:insert(reference(citation, targets))
        out:extend(citation.suffix)
      elseif known[citation.id] then
        others:insert(citation)
      end
    end
    if #out == 0 and #others == 0 then
      if cite.citations[1].mode ~= 'AuthorInText' or next(known) then
        warn('the bibliography has no ' .. cite.citations[1].id .. ', but the text cites it')
      end
      return cite.content -- an "@" that meant something else stays as it was written
    end
    if #others > 0 then
      if #out > 0 then out:insert(pandoc.Space()) end
      out:insert(pandoc.Cite(#out > 0 and { pandoc.Str('?') } or cite.content, others))
    end
    return out
  end })
end

-- An identifier stands once and on what both writers can label; a link within the document leads to one that is there.
local function linked(blocks, aliases)
  local ids, lost = {}, {}
  local function once(element)
    if ids[element.identifier] then element.identifier = '' end
    if element.identifier ~= '' then ids[element.identifier] = true end
    return element
  end
  local function none(element)
    element.identifier = ''
    return element
  end
  blocks = blocks:walk({ traverse = 'topdown', Header = once, Div = once, Span = once, Code = none, CodeBlock = none,
    Link = none, Image = none, Table = none })
  return blocks:walk({ Link = function(link)
    local id = link.target:match('^#(.*)')
    if not id or ids[id] or id:match('^ref%-') then return nil end
    local name = id:gsub('%%(%x%x)', function(hex) return string.char(tonumber(hex, 16)) end)
    local found = aliases[name] or aliases[name:lower()] or ids['sec-' .. name] and 'sec-' .. name
    if found then
      link.target = '#' .. found
      return link
    end
    cell_number = link.attributes.cell
    if not lost[id] and id ~= '' and id ~= 'top' then warn('a link leads to #' .. id .. ', which is nowhere') end
    lost[id], cell_number = true, nil
    return link.content
  end })
end

-- The document --------------------------------------------------------------------------------------------------

-- The one level-1 heading with which notebooks begin is the title.
local function take_title(blocks, meta)
  local first, count = nil, 0
  for index, block in ipairs(blocks) do
    if block.t == 'Header' and block.level == 1 then first, count = first or index, count + 1 end
  end
  if count ~= 1 or first ~= 1 then return end
  meta.title = meta.title or pandoc.MetaInlines(blocks[1].content)
  blocks:remove(1)
end

-- Sections begin at level 1 and skip no level, which tagged PDF asks for.
local function regular_levels(blocks)
  local least, previous = 6, 0
  blocks:walk({ Header = function(header) least = math.min(least, header.level) end })
  return blocks:walk({ Header = function(header)
    header.level = math.min(header.level - least, previous) + 1
    previous = header.level
    return header
  end })
end

local function metadata(front)
  local meta = {}
  for _, key in ipairs({ 'title', 'subtitle', 'scope', 'date' }) do
    if front[key] then meta[key] = pandoc.MetaInlines(unbroken(plain(tostring(front[key])))) end
  end
  for _, key in ipairs({ 'author', 'affiliation', 'keywords' }) do
    if front[key] then
      meta[key] = pandoc.List.map(front[key], function(name) return pandoc.MetaInlines({ pandoc.Str(name) }) end)
    end
  end
  if front.abstract then meta.abstract = pandoc.MetaBlocks(markdown(front.abstract):walk({ Math = tidy_formula })) end
  if front.bibliography then meta.bibliography = front.bibliography end
  meta.lang, meta['link-citations'] = front.lang or 'en', true
  return meta
end

local function bibliography_keys(blocks, meta)
  local keys = {}
  if not meta.bibliography then return keys end
  for _, entry in ipairs(pandoc.utils.references(pandoc.Pandoc(blocks, meta))) do keys[entry.id] = true end
  return keys
end

function Reader(sources)
  local manuscript = pandoc.json.decode(tostring(sources), false)
  local meta, blocks = metadata(manuscript.front), pandoc.Blocks({})
  for _, cell in ipairs(manuscript.blocks) do blocks:extend(settled_cell(cell)) end
  cell_number = nil
  take_title(blocks, meta)
  blocks = regular_levels(blocks)
  meta.title = meta.title or pandoc.MetaInlines({ pandoc.Str(manuscript.name) })
  local targets, aliases, known = {}, {}, bibliography_keys(blocks, meta)
  blocks = number_floats(number_headers(blocks, targets, aliases), targets)
  blocks = linked(resolve(blocks, targets, known), aliases)
  if meta.abstract then
    meta.abstract = pandoc.MetaBlocks(resolve(pandoc.Blocks(meta.abstract), targets, known))
  end
  local last = blocks[#blocks]
  if next(known) and not (last and last.t == 'Header') then meta['reference-section-title'] = 'References' end
  return pandoc.Pandoc(blocks, meta)
end
